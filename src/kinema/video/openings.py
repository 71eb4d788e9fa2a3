"""What only the first decoded frame of a source tells, kept so that a source that is read again and again
is not decoded from its start each time.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TypeAlias

from kinema.location import Located, PackedFile
from kinema.video.pictures import SourceInfo
from kinema.video.pixels import Geometry

_MOST = 16_384  # sources; ten megabytes

Version: TypeAlias = tuple[str, int, int, int]
"""Name, length, time of the last change and number of a local file."""


@dataclass(frozen=True)
class Opening:
    """Facts of a source; `origin_s` is the container's time of the first frame that decodes."""

    origin_s: float
    geometry: Geometry
    info: SourceInfo


class Openings:
    """The openings of local files, by version; the ones kept longest go first. Threads may share it."""

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._kept: dict[Version, Opening] = {}
        self._lock = Lock()

    def of(self, path: Located) -> Opening | None:
        """None for a source that is new, has changed, or lies in a store."""
        with self._lock:
            return self._kept.get(version) if (version := file_version(path)) else None

    def keep(self, path: Located, opening: Opening) -> None:
        """Nothing is kept of a source in a store."""
        version = file_version(path)
        if version is None:
            return
        with self._lock:
            self._kept[version] = opening
            if len(self._kept) > self._most:
                del self._kept[next(iter(self._kept))]


def file_version(path: Located) -> Version | None:
    """What changes when a file is replaced; None where no file system tells."""
    file = path.shard if isinstance(path, PackedFile) else path
    if not isinstance(file, Path) or not file.is_file():
        return None
    facts = file.stat()
    return str(path), path.stat().st_size, facts.st_mtime_ns, facts.st_ino


openings = Openings()
