"""A thread that says so when a step takes far longer than steps take."""

from __future__ import annotations

import json
import logging
import statistics
import threading
import time
from collections import deque
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

_log = logging.getLogger(__name__)
_KNOWN = 5


@dataclass
class _Now:
    step: int
    began: float
    phase: str = "waiting for data"
    bucket: str = ""
    clips: tuple[str, ...] = ()
    told: bool = False


class Watchdog(AbstractContextManager["Watchdog"]):
    """Watches one rank's steps. One that takes `factor` times the median of the last ones, and at least
    `floor_s`, is written to `watchdog.jsonl` and logged: which rank, in what, with which clips.

    Ranks wait for each other, so all of them report a step that hangs; the phase tells who is waited for.
    """

    def __init__(self, folder: Path, rank: int, *, factor: float = 10.0, floor_s: float = 10.0) -> None:
        self._path, self._rank = folder / "watchdog.jsonl", rank
        self._factor, self._floor_s = factor, floor_s
        self._durations: deque[float] = deque(maxlen=50)
        self._now: _Now | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="kinema-watchdog", daemon=True)
        self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def begin(self, step: int) -> None:
        """A step begins, with waiting for its batch."""
        self._now = _Now(step, time.monotonic())

    def phase(self, name: str, bucket: str = "", clips: tuple[str, ...] = ()) -> None:
        """What the step does now, and with what."""
        if self._now is not None:
            self._now.phase = name
            self._now.bucket, self._now.clips = bucket or self._now.bucket, clips or self._now.clips

    def end(self) -> None:
        """The step is done."""
        if self._now is not None:
            self._durations.append(time.monotonic() - self._now.began)
        self._now = None

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._floor_s / 4)):
            now = self._now
            if now is None or now.told or len(self._durations) < _KNOWN:
                continue
            seconds, median = time.monotonic() - now.began, statistics.median(self._durations)
            if seconds > max(self._floor_s, self._factor * median):
                now.told = True
                self._tell(now, seconds, median)

    def _tell(self, now: _Now, seconds: float, median: float) -> None:
        batch = f"; bucket {now.bucket}, clips {', '.join(now.clips)}" if now.clips else ""
        _log.warning(
            "rank %d: step %d takes %.1f s, a step usually %.2g s; it is %s%s",
            *(self._rank, now.step, seconds, median, now.phase, batch),
        )
        row = {"time": time.time(), "rank": self._rank, "step": now.step, "phase": now.phase}
        row |= {"seconds": round(seconds, 2), "median_s": round(median, 4)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row | {"bucket": now.bucket, "clips": now.clips}) + "\n")
