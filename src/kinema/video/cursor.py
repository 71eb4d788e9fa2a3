"""Going forward through an open source to the pictures on display at given times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from kinema.errors import DecodeError
from kinema.location import Located
from kinema.video.pictures import Picture

_READ_ON_S = 3.0  # a wanted frame that lies within this is decoded up to, a later one is sought
_JUMP_IN_S = 0.25  # the first wanted frame is sought sooner: on the way to it, frames can be left out
_HORIZON_S = 10.0


@dataclass(frozen=True)
class Wanted:
    """Times whose pictures are needed, ascending; `last` when nothing is asked for after them."""

    times_s: Sequence[float]
    last: bool


class Source(Protocol):
    """An open source; see `kinema.video.reader.Reader`."""

    path: Located

    @property
    def seekable(self) -> bool: ...

    @property
    def tolerance_s(self) -> float: ...

    def pictures(self) -> Iterator[Picture]: ...

    def restart(self, time_s: float, wanted: Wanted) -> Iterator[Picture]: ...

    def hurry(self, time_s: float, wanted: Wanted) -> bool: ...


class Cursor:
    """Goes forward through a reader: reads on to a near time, seeks to a far one."""

    def __init__(self, reader: Source, times_s: Sequence[float]) -> None:
        self._reader = reader
        self._times_s = times_s
        self._pictures = reader.pictures()
        self._shown: Picture | None = None  # nothing is decoded before it is known where to begin
        self._ahead: Picture | None = None
        self._ended = False

    def at(self, time_s: float) -> Picture:
        limit_s = time_s + self._reader.tolerance_s
        if self._reader.seekable and time_s > self._reads_to_s():
            wanted = self._wanted(limit_s)
            if not self._reader.hurry(limit_s, wanted):
                self._seek(limit_s, wanted)
        shown = self._shown = self._shown or next(self._pictures)
        while not self._settled(shown, time_s, limit_s):
            shown = self._shown = self._step(shown, limit_s)
        return shown

    def _reads_to_s(self) -> float:
        if self._shown is None:
            return _JUMP_IN_S
        return (self._ahead or self._shown).pts_s + _READ_ON_S

    def _settled(self, shown: Picture, time_s: float, limit_s: float) -> bool:
        exact = abs(shown.pts_s - time_s) <= self._reader.tolerance_s
        return exact or self._ended or (self._ahead is not None and self._ahead.pts_s > limit_s)

    def _step(self, shown: Picture, limit_s: float) -> Picture:
        if self._ahead is not None and self._ahead.pts_s <= limit_s:
            shown, self._ahead = self._ahead, None
            return shown
        following = next(self._pictures, None)
        if following is None:
            self._ended = True
        elif following.pts_s <= limit_s:
            return following
        else:
            self._ahead = following
        return shown

    def _wanted(self, limit_s: float) -> Wanted:
        """The time, and those that follow soon."""
        tolerance_s = self._reader.tolerance_s
        following = [time_s + tolerance_s for time_s in self._times_s if time_s + tolerance_s > limit_s]
        soon = [time_s for time_s in following if time_s < limit_s + _HORIZON_S]
        return Wanted([limit_s, *soon], last=len(soon) == len(following))

    def _seek(self, limit_s: float, wanted: Wanted) -> None:
        """Begin at a key frame that is not after the time; step back further until one is."""
        back_s = 0.0
        while True:
            target_s = limit_s - back_s
            pictures = self._reader.restart(target_s, wanted)
            first = next(pictures, None)
            if first is not None and first.pts_s <= limit_s:
                self._pictures, self._shown, self._ahead, self._ended = pictures, first, None, False
                return
            if target_s <= 0:
                raise DecodeError(f"{self._reader.path}: cannot seek to {limit_s:.3f} s")
            back_s = 2 * back_s + 1.0
