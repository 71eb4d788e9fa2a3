"""One function over many tasks: here, in a pool of processes that survives a killed one, or on Ray."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, Literal, Protocol

from kinema.curate.workers import Budget, OverBudget, Result, Task, Worker, WorkerDied, wait_for_any

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
        waiting = deque(tasks)
        pool = Pool(function, budget, min(self.workers, max(len(waiting), 1)))
        try:
            yield from pool.run(waiting)
        finally:
            pool.close()


class Pool(Generic[Task, Result]):
    """Workers that stay for the next run; `close` ends them."""

    def __init__(
        self, function: Callable[[Task], Result], budget: Callable[[Task], Budget], workers: int
    ) -> None:
        self._budget = budget
        self._workers = [Worker[Task, Result](function) for _ in range(workers)]

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Result | WorkerDied | OverBudget]]:
        """A task whose process was killed is done again, alone, when the others are done: a death by lack of
        memory may be another one's doing."""
        died: deque[Task] = deque()
        for task, outcome in self._pass(deque(tasks), self._workers):
            if isinstance(outcome, WorkerDied):
                died.append(task)
            else:
                yield task, outcome
        for task in died:
            yield from self._pass(deque([task]), self._workers[:1])

    def _pass(
        self, waiting: deque[Task], workers: list[Worker[Task, Result]]
    ) -> Iterator[tuple[Task, Result | WorkerDied | OverBudget]]:
        while True:
            for worker in workers:
                if waiting and not worker.busy:
                    task = waiting.popleft()
                    worker.begin(task, self._budget(task))
            busy = [worker for worker in workers if worker.busy]
            if not busy:
                return
            wait_for_any(busy)
            for worker in busy:
                task = worker.task  # type: ignore[assignment]  # a busy worker has one
                if (outcome := worker.poll()) is not None:
                    yield task, outcome

    def close(self) -> None:
        """Kill all processes."""
        for worker in self._workers:
            worker.end()


def build_engine(kind: Literal["local", "ray"], workers: int | None, tasks: int) -> Engine:
    """The engine for so many tasks; never more workers than tasks."""
    match kind:
        case "local":
            wanted = min(os.cpu_count() or 1, _MOST_WORKERS) if workers is None else workers
            return LocalEngine(min(wanted, tasks))
        case "ray":
            from kinema.curate.ray_engine import RayEngine

            return RayEngine(workers)
