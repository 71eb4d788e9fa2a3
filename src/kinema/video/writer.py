"""Frames to files: H.264 video that plays everywhere, and PNG images; each written atomically."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.errors import OutputError
from kinema.files import atomic_path

_BT709, _LIMITED_RANGE = 1, 1


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """How H.264 is written. `gop` is the most frames between key frames, None is the encoder's choice; with
    `threads` 1 the same frames give the same bytes each time.
    """

    crf: int = 18
    preset: str = "medium"
    gop: int | None = None
    threads: int = 0

    @property
    def options(self) -> dict[str, object]:
        """As the encoder names them."""
        wanted = {"crf": self.crf, "preset": self.preset, "g": self.gop, "threads": self.threads or None}
        if self.threads == 1:
            wanted["x264-params"] = "mbtree=0"  # with it, bytes differ from run to run (docs/decisions/0331)
        return {name: str(value) for name, value in wanted.items() if value is not None}


def write_video(
    path: Path,
    frames: Iterable[UInt8[np.ndarray, "h w 3"]],
    fps: float,
    encoding: Encoding | None = None,
) -> None:
    """RGB frames to H.264 yuv420p with the index at the front; odd sizes gain a row or column at the edge.

    `frames` may be an array `t h w 3` or any iterable of frames, so that a long video need not be in memory.
    """
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    iterator = iter(frames)
    first = next(iterator, None)
    if first is None:
        raise ValueError(f"cannot write {path}: there are no frames")
    _check(first, first.shape)
    with atomic_path(path) as temporary:
        try:
            _encode(temporary, chain([first], iterator), fps, (encoding or Encoding()).options)
        except av.error.FFmpegError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}") from error


def write_image(path: Path, frame: UInt8[np.ndarray, "h w 3"]) -> None:
    """One RGB frame as an image; the suffix of `path` chooses the format (.png, .jpg, .webp)."""
    _check(frame, frame.shape)
    with atomic_path(path) as temporary:
        temporary.write_bytes(image_bytes(frame, path.suffix or ".png"))


def image_bytes(frame: UInt8[np.ndarray, "h w 3"], suffix: str = ".png") -> bytes:
    """One RGB frame, encoded."""
    try:
        done, encoded = cv2.imencode(suffix, cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise OutputError(f"cannot write an image as {suffix!r}; use .png, .jpg or .webp") from error
    if not done:
        raise OutputError(f"cannot encode an image of shape {frame.shape} as {suffix!r}")
    return bytes(encoded.tobytes())


def _encode(
    path: Path, frames: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float, options: dict[str, object]
) -> None:
    with av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = None
        for index, frame in enumerate(frames):
            if stream is None:
                shape = frame.shape
                stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
                stream.height, stream.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
                stream.pix_fmt = "yuv420p"
                stream.options = options
                for name in ("colorspace", "color_primaries", "color_trc", "color_range"):
                    setattr(stream.codec_context, name, _BT709)
            _check(frame, shape)
            container.mux(stream.encode(_yuv(frame, index)))
        if stream is not None:
            container.mux(stream.encode(None))


def _yuv(frame: UInt8[np.ndarray, "h w 3"], index: int) -> av.VideoFrame:
    padded = np.pad(frame, ((0, frame.shape[0] % 2), (0, frame.shape[1] % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24").reformat(
        format="yuv420p",
        interpolation="AREA",
        dst_colorspace=_BT709,
        dst_color_range=_LIMITED_RANGE,
        dst_color_trc=_BT709,
        dst_color_primaries=_BT709,
    )
    picture.pts = index
    return picture


def _check(frame: UInt8[np.ndarray, "h w 3"], shape: tuple[int, ...]) -> None:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise ValueError(f"frames must be uint8 h w 3, got {frame.dtype} {frame.shape}")
    if frame.shape != shape:
        raise ValueError(f"all frames must have the shape of the first, {shape}, got {frame.shape}")
