"""Clips as files that a browser plays: cut by worker processes when first asked for, into a cache."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Generic

from kinema.curate.workers import Budget, OverBudget, Result, Task, Worker, WorkerDied, wait_for_any
from kinema.dataset.store import as_stored, source_file
from kinema.errors import DecodeError
from kinema.manifest import Clip
from kinema.studio.config import Limits
from kinema.studio.cutting import Cut, cut
from kinema.video.reader import probe

_VERSION = 1  # raise it when the same clip is cut in another way


class Lane(Generic[Task, Result]):
    """One worker process and those who wait for it, one after the other."""

    def __init__(self, function: Callable[[Task], Result], budget: Budget) -> None:
        self._worker = Worker[Task, Result](function)
        self._budget = budget
        self._thread = ThreadPoolExecutor(1)

    def submit(self, task: Task) -> Future[Result]:
        """The outcome; `DecodeError` when the process died or was stopped because it cost too much."""
        return self._thread.submit(self._run, task)

    def _run(self, task: Task) -> Result:
        self._worker.begin(task, self._budget)
        while (outcome := self._worker.poll()) is None:
            wait_for_any([self._worker])
        if isinstance(outcome, OverBudget):
            raise DecodeError(f"given up: it {outcome.reason}")
        if isinstance(outcome, WorkerDied):
            raise DecodeError("given up: its process died")
        return outcome

    def close(self) -> None:
        """Kill the process; those who wait are told."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._worker.end()


class Media:
    """The cache. Whoever asks for what is being cut waits for that."""

    def __init__(self, cache: Path, limits: Limits) -> None:
        self._cache, self._limits = cache, limits
        budget = Budget(seconds=limits.decode_s, memory_mb=limits.memory_mb)
        self._videos: Lane[Cut, str] = Lane(cut, budget)
        self._stills: Lane[Cut, str] = Lane(cut, budget)
        self._pending: dict[Path, Future[str]] = {}
        self._lock = threading.Lock()
        self._made = 0

    async def clip(self, dataset: Path, clip: Clip, suffix: str) -> Path:
        """The clip as .mp4, or its middle frame as .jpg."""
        stored = as_stored(clip)
        source = source_file(dataset, clip)
        end_s = stored.end_s if clip.frames > 1 else stored.start_s
        wanted = (str(source), stored.start_s, end_s)
        side = 360 if suffix == ".mp4" else 180
        return await self.cut(
            Cut(
                source=source,
                start_s=stored.start_s,
                end_s=end_s,
                target=self._target(wanted, suffix),
                side=side,
            )
        )

    async def file(self, path: Path, suffix: str, side: int = 180) -> Path:
        """A whole file, made small."""
        stamp = path.stat()
        target = self._target((str(path), stamp.st_mtime_ns, stamp.st_size, side), suffix)
        return await self.cut(Cut(source=path, target=target, side=side))

    async def judged(self, path: Path, *, spoiled: bool) -> Path:
        """A video to be judged: as it is where browsers play it, else encoded with care; or spoiled."""
        stamp = path.stat()
        wanted = ("judged", str(path), stamp.st_mtime_ns, stamp.st_size, spoiled)
        target = self._target(wanted, ".mp4")
        if not spoiled and path.suffix == ".mp4":
            info = await asyncio.to_thread(probe, path)
            if info.codec == "h264":
                return path
        return await self.cut(Cut(source=path, target=target, side=2160, crf=12, spoiled=spoiled))

    async def cut(self, task: Cut) -> Path:
        """The task's target, made if it is not there."""
        if not task.target.is_file():
            reason = await asyncio.wrap_future(self._future(task))
            if reason:
                raise DecodeError(reason)
        return task.target

    def _future(self, task: Cut) -> Future[str]:
        with self._lock:
            if task.target not in self._pending:
                lane = self._stills if task.target.suffix == ".jpg" else self._videos
                self._pending[task.target] = future = lane.submit(task)
                future.add_done_callback(lambda _: self._done(task.target))
            return self._pending[task.target]

    def _done(self, target: Path) -> None:
        with self._lock:
            self._pending.pop(target, None)
            self._made += 1
            due = self._made % 200 == 0
        if due:
            self.prune()

    def prune(self) -> None:
        """Delete what was made longest ago until the cache is small enough."""
        files = [(path.stat(), path) for path in self._cache.glob("*/*") if path.is_file()]
        total = sum(facts.st_size for facts, _ in files)
        for facts, path in sorted(files, key=lambda item: item[0].st_mtime):
            if total <= self._limits.cache_gb * 2**30:
                return
            path.unlink(missing_ok=True)
            total -= facts.st_size

    def _target(self, wanted: tuple[object, ...], suffix: str) -> Path:
        name = hashlib.sha256(repr((_VERSION, *wanted)).encode()).hexdigest()[:32]
        return self._cache / name[:2] / f"{name[2:]}{suffix}"

    def close(self) -> None:
        """End the workers."""
        self._videos.close()
        self._stills.close()
