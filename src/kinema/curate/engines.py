"""Running one function over many sources: here, or in a pool of processes that survives a killed worker."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

Result = TypeVar("Result")

_TRIES_ALONE = 2
_TASKS_PER_WORKER = 100  # then it is replaced, so that no leak in a decoder grows without bound


@dataclass(frozen=True)
class WorkerDied:
    """The process that worked on a source alone was killed, twice."""


@dataclass(frozen=True)
class LocalEngine(Generic[Result]):
    """`workers` processes, or this one when 0. Results come in the order in which they are done."""

    function: Callable[[Path], Result]
    workers: int

    def run(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Result | WorkerDied]]:
        if self.workers == 0:
            yield from ((path, self.function(path)) for path in paths)
            return
        waiting, suspects = deque(paths), deque[Path]()
        while waiting or suspects:
            if suspects:
                yield self._alone(suspects.popleft())
            else:
                yield from self._together(waiting, suspects)

    def _together(self, waiting: deque[Path], suspects: deque[Path]) -> Iterator[tuple[Path, Result]]:
        """Until all is done or a worker dies; what was under way then is suspect."""
        running: dict[Future[Result], Path] = {}
        with self._pool(min(self.workers, len(waiting))) as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self.workers:
                        path = waiting.popleft()
                        running[self._submit(pool, path, waiting)] = path
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future), result
            except BrokenProcessPool:
                suspects.extend(running.values())

    def _submit(self, pool: ProcessPoolExecutor, path: Path, waiting: deque[Path]) -> Future[Result]:
        try:
            return pool.submit(self.function, path)
        except BrokenProcessPool:
            waiting.appendleft(path)
            raise

    def _alone(self, path: Path) -> tuple[Path, Result | WorkerDied]:
        """Only this source runs, so a death is its own doing; once may be chance."""
        for _ in range(_TRIES_ALONE):
            with self._pool(1) as pool, suppress(BrokenProcessPool):
                return path, pool.submit(self.function, path).result()
        return path, WorkerDied()

    def _pool(self, workers: int) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=max(workers, 1),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_worker,
            max_tasks_per_child=_TASKS_PER_WORKER,
        )


def _begin_worker() -> None:
    """Ctrl-C ends a worker without a word, and so does the end of the main process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
