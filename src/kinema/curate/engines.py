"""One function over many tasks: here, in a pool of processes that survives a killed one, or on Ray."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from kinema.curate.pool import Pool
from kinema.curate.workers import Budget, OverBudget, Result, Task, WorkerDied

_MOST_WORKERS = 4  # decoding is soon bound by the disk


class Engine(Protocol):
    """Results come in the order in which they are done, and every engine gives the same ones.

    The function and its tasks travel to other processes, perhaps on other machines: paths and addresses,
    never pixels. What the function raises is a defect and ends the run.
    """

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], budget: Callable[[Task], Budget]
    ) -> Iterator[tuple[Task, Result | WorkerDied | OverBudget]]:
        """Every task with its result, or with why it has none."""
        ...


@dataclass(frozen=True)
class LocalEngine:
    """`workers` processes, or this one when 0, where nobody watches what a task costs."""

    workers: int

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], budget: Callable[[Task], Budget]
    ) -> Iterator[tuple[Task, Result | WorkerDied | OverBudget]]:
        if self.workers == 0:
            yield from ((task, function(task)) for task in tasks)
            return
        waiting = list(tasks)
        pool = Pool(function, budget, min(self.workers, max(len(waiting), 1)))
        try:
            yield from pool.run(waiting)
        finally:
            pool.close()


def build_engine(kind: Literal["local", "ray"], workers: int | None, tasks: int) -> Engine:
    """The engine for so many tasks; never more workers than tasks."""
    match kind:
        case "local":
            wanted = min(os.cpu_count() or 1, _MOST_WORKERS) if workers is None else workers
            return LocalEngine(min(wanted, tasks))
        case "ray":
            from kinema.curate.ray_engine import RayEngine

            return RayEngine(workers)
