"""How fast curation goes, in words: clips a second, hours of video an hour, time left, failures."""

from __future__ import annotations

import time
from collections.abc import Callable

from kinema.manifest import Source


class Pace:
    """Counts what is done in this run; the time left is estimated from bytes."""

    def __init__(self, total_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._total_bytes = total_bytes
        self._clock = clock
        self._started = clock()
        self._clips = 0
        self._bytes = 0
        self._video_s = 0.0
        self._failed = 0

    def add(self, source: Source, clips: int, size: int) -> None:
        """One source is done."""
        self._clips += clips
        self._bytes += size
        self._video_s += source.duration_s
        self._failed += source.status not in {"done", "duplicate"}

    @property
    def note(self) -> str:
        """One short line."""
        passed_s = max(self._clock() - self._started, 1e-6)
        words = [f"{self._clips / passed_s:.1f} clips/s", f"{self._video_s / passed_s:.1f} h video/h"]
        if 0 < self._bytes < self._total_bytes:
            words.append(f"{_duration(passed_s * (self._total_bytes / self._bytes - 1))} left")
        if self._failed:
            words.append(f"{self._failed} failed")
        return ", ".join(words)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
