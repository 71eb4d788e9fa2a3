"""Where bytes lie: a local path, an object in a store, or a range of a shard; all open and stat alike."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, TypeAlias, cast

from kinema.errors import KinemaError

_BLOCK_BYTES = 4 << 20  # a ranged read of an object; a decoder's small reads are served from it


def embedded_model() -> Path:
    """The folder of the model that comes with kinema: a small rendered world (docs/model-card.md)."""
    return Path(str(files("kinema") / "models" / "world"))


def is_url(name: str | Path) -> bool:
    """Whether a name is an address such as s3://bucket/clip.mp4."""
    return "://" in str(name)


def filename_words(source: Path) -> str:
    """`beach_sunset-1080p_02.mp4` is "beach sunset": numbers and words with digits say nothing."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", source.stem)
    words = re.split(r"[\W_]+", spaced)
    return " ".join(word.lower() for word in words if word and not any(char.isdigit() for char in word))


def located(name: str | Path) -> Path:
    """The path of a name. One in an object store has the methods of a `Path`, and pickles as its address.

    Raises `KinemaError` when the package that reads such an address is not installed, `FetchError` when its
    server is not there.
    """
    if not isinstance(name, str):
        return name
    return _in_store(name) if is_url(name) else Path(name)


def _in_store(name: str) -> Path:
    try:
        from upath import UPath

        path = UPath(name)
        path.fs  # noqa: B018 (loads the store's own package)
    except (ImportError, ValueError) as error:
        raise KinemaError(f"{name}: reading it needs: pip install 'kinema[s3]' ({error})") from error
    except OSError as error:
        raise FetchError(f"{name}: {error.strerror or error}") from error
    return cast(Path, path)


class FetchError(OSError):
    """A store that does not answer; not the fault of the object."""


def open_bytes(path: Located) -> IO[bytes]:
    """Open for reading; an object is read by ranges, never as a whole."""
    if isinstance(path, Path | PackedFile):
        return path.open("rb")
    return cast(IO[bytes], _Ranged(path))


class _Ranged(RawIOBase):
    """An object as a file; whatever its library raises is a `FetchError`."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        with fetching(self.name):
            self._file = cast(Any, path).open("rb", block_size=_BLOCK_BYTES, cache_type="readahead")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def read(self, size: int = -1) -> bytes:
        with fetching(self.name):
            return bytes(self._file.read(size))

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


@contextmanager
def fetching(name: str) -> Iterator[None]:
    """Whatever a store's library raises inside becomes a `FetchError` that names the address."""
    try:
        yield
    except Exception as error:  # every store has its own exceptions
        reason = " ".join(str(error).split()) or type(error).__name__
        raise FetchError(f"{name}: {reason}") from error


def identity(path: Path) -> str:
    """The store's own name of an object's content (length and ETag), so that it need not be read twice.

    "" where there is none: a local file, or a store without ETags.
    """
    if isinstance(path, Path):
        return ""
    remote = cast(Any, path)
    with fetching(str(path)):
        facts = remote.fs.info(remote.path)
    etag = facts.get("ETag") or facts.get("etag")
    return f"etag {etag} {facts['size']}" if etag else ""


@dataclass(frozen=True)
class PackedFile:
    """`size` bytes from `offset` of a file: a clip inside a tar shard. `suffix` is that of the clip."""

    shard: Path
    offset: int
    size: int
    suffix: str = ".mp4"

    @property
    def name(self) -> str:
        """The shard's name and the place in it."""
        return f"{self.shard.name}@{self.offset}{self.suffix}"

    def __str__(self) -> str:
        return f"{self.shard}@{self.offset}"

    def exists(self) -> bool:
        """Whether the shard is there."""
        return self.shard.exists()

    def is_file(self) -> bool:
        """Whether the shard is a file."""
        return self.shard.is_file()

    def stat(self) -> os.stat_result:
        """That of the shard, with the length of the clip."""
        facts = list(self.shard.stat())
        facts[6] = min(self.size, max(0, facts[6] - self.offset))
        return os.stat_result(facts)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """The clip's bytes, read at once."""
        if mode != "rb":
            raise ValueError(f"a clip in a shard is only read, got mode {mode!r}")
        return BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """By position, so that threads can share nothing and wait for nothing."""
        with open_bytes(self.shard) as file:
            file.seek(self.offset)
            return file.read(self.size)


Located: TypeAlias = Path | PackedFile
