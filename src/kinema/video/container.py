"""Opening media files safely with PyAV: which formats, which stream, and one-line errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import av
import av.error
from av.container import InputContainer
from av.video.stream import VideoStream

from kinema.errors import DecodeError
from kinema.location import FetchError, Located, open_bytes

# Demuxers that read other files, or that see a picture in any text.
_TELL_ALL = {".mp4", ".m4v", ".mov", ".mkv", ".webm"}
_REFUSED_FORMATS = {"tty", "hls", "concat", "dash", "imf", "lavfi", "ffmetadata", "webm_dash_manifest"}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one source may cost, so that a hostile file cannot stop a run.

    The time is `base_seconds` and `seconds_per_mb` for its length, at most `max_seconds`: a small file that
    decodes for ever is given up soon. Workers are killed when they pass it, or `max_memory_mb`.
    """

    max_pixels: int = 2**27
    max_frames: int = 10_000_000
    max_seconds: float = 6 * 3600.0
    base_seconds: float = 600.0
    seconds_per_mb: float = 60.0
    max_memory_mb: float = 4096.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if getattr(self, item.name) <= 0:
                raise ValueError(f"{item.name} must be positive, got {getattr(self, item.name)}")

    def seconds(self, size: int) -> float:
        """The time for a source of so many bytes."""
        return min(self.max_seconds, self.base_seconds + self.seconds_per_mb * size / 2**20)


@contextmanager
def one_line_errors(path: Located, doing: str) -> Iterator[None]:
    """Whatever the libraries raise about a file becomes one `DecodeError` line that names it."""
    try:
        yield
    except (DecodeError, FetchError):
        raise
    except MemoryError as error:
        raise DecodeError(f"{path}: {doing}: not enough memory") from error
    except (av.error.FFmpegError, OSError, EOFError, ValueError, RuntimeError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DecodeError(f"{path}: {doing}: {' '.join(str(reason).split())}") from error


@contextmanager
def open_container(path: Located, limits: Limits, *, quick: bool = False) -> Iterator[InputContainer]:
    """An open PyAV input container. `quick` decodes nothing to find out more than the container states, where
    the container states all that reading needs.

    Only this file is read: the `file:` prefix keeps names such as `concat:a` or `%d.png` from being
    taken for something else, and playlist formats are refused. What is not a local file of its own
    (an object, a clip in a shard) is read through Python by ranges.
    """
    with ExitStack() as stack:
        with one_line_errors(path, "cannot be opened"):
            if not path.exists():
                raise DecodeError(f"{path}: no such file")
            if not path.is_file():
                raise DecodeError(f"{path}: is not a file")
            if path.stat().st_size == 0:
                raise DecodeError(f"{path}: the file is empty")
            container = stack.enter_context(_open(path, limits, stack, quick))
        if container.format.name in _REFUSED_FORMATS:
            raise DecodeError(f"{path}: is not a video or image (it looks like {container.format.name})")
        yield container


def _open(path: Located, limits: Limits, stack: ExitStack, quick: bool) -> InputContainer:
    options = {"protocol_whitelist": "file", "max_pixels": str(limits.max_pixels)}
    if quick and path.suffix.lower() in _TELL_ALL:
        options["skip_frame"] = "all"  # of the decoders that look ahead while the file is opened
    try:
        if not isinstance(path, Path):
            file = stack.enter_context(open_bytes(path))
            return av.open(file, mode="r", options=options, metadata_errors="replace")
        if "%" in path.name:  # the image reader would take it for a numbered sequence
            options = {"pattern_type": "none", **options}
        return av.open(f"file:{path}", options=options, metadata_errors="replace")
    except av.error.InvalidDataError as error:
        raise DecodeError(f"{path}: is not a video or image that can be read, or it is damaged") from error


def video_stream(container: InputContainer, path: Located) -> VideoStream:
    """The first real video stream; a cover picture is none."""
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    kinds = sorted({stream.type for stream in container.streams})
    found = f"only {', '.join(kinds)}" if kinds else "no streams at all"
    raise DecodeError(f"{path}: no video in it ({found})")


def is_still(container: InputContainer, path: Located) -> bool:
    """Whether the container holds one still image by its format."""
    name: str = container.format.name
    return name == "image2" or name.endswith("_pipe") or path.suffix.lower() in {".avif", ".heic", ".heif"}
