"""Several watched workers and the tasks between them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic

from kinema.curate.workers import Budget, OverBudget, Result, Task, Worker, WorkerDied, wait_for_any

_TRIES_ALONE = 2


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
            yield task, self._alone(task)

    def _alone(self, task: Task) -> Result | WorkerDied | OverBudget:
        for _ in range(_TRIES_ALONE):
            ((_, outcome),) = self._pass(deque([task]), self._workers[:1])
            if not isinstance(outcome, WorkerDied):
                return outcome
        return WorkerDied()

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
