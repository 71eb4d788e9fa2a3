"""The cluster engine: the same functions under Ray Data. Paths and addresses travel, never pixels.

Every actor watches a worker process of its own, as the local engine does, so that a source that hangs or
kills its process ends alike on both.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kinema.curate.pool import Pool
from kinema.curate.workers import Budget, OverBudget, Result, Task, WorkerDied
from kinema.errors import KinemaError

_MOST_BLOCKS = 10_000  # a block is what is lost, and done again, when a node goes


@dataclass(frozen=True)
class RayEngine:
    """`workers` actors of one processor each; None takes the processors of the cluster."""

    workers: int | None

    def run(
        self, function: Callable[[Task], Result], tasks: Iterable[Task], budget: Callable[[Task], Budget]
    ) -> Iterator[tuple[Task, Result | WorkerDied | OverBudget]]:
        left = list(tasks)
        if not left:
            return
        for _ in range(2):  # what was lost with a node more often than Ray tries is tried once more
            done = set[Task]()
            for task, outcome in self._pass(function, left, budget):
                done.add(task)
                yield task, outcome
            left = [task for task in left if task not in done]
            if not left:
                return
        yield from ((task, WorkerDied()) for task in left)

    def _pass(
        self, function: Callable[[Task], Result], tasks: list[Task], budget: Callable[[Task], Budget]
    ) -> Iterator[tuple[Task, Result | WorkerDied | OverBudget]]:
        ray = connect()
        rows = [{"place": place, "task": pickle.dumps(task)} for place, task in enumerate(tasks)]
        workers = self.workers or int(ray.cluster_resources().get("CPU", 1))
        outcomes = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MOST_BLOCKS)).map(
            Watched,
            fn_constructor_args=(pickle.dumps((function, budget)),),
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=1,
        )
        for row in outcomes.iter_rows():
            outcome = pickle.loads(row["outcome"])
            if isinstance(outcome, Exception):
                raise outcome
            yield tasks[row["place"]], outcome


class Watched:
    """What an actor holds: one worker process, reused from task to task."""

    def __init__(self, pickled: bytes) -> None:
        function, budget = pickle.loads(pickled)
        self._pool = Pool[Any, Any](function, budget, 1)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            ((_, outcome),) = self._pool.run([pickle.loads(row["task"])])
        except Exception as error:  # a defect: told to the main process, which raises it
            outcome = error
        return {"place": row["place"], "outcome": pickle.dumps(outcome)}


def connect() -> Any:  # noqa: ANN401 (the module, whether or not its types are installed)
    """Ray, after joining the cluster that $RAY_ADDRESS names or starting one on this machine; quiet."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # of a cluster that is started here; see decision 0270
    try:
        ray = import_module("ray")
        import_module("ray.data")
    except ImportError as error:
        raise KinemaError(f"engine ray needs: pip install 'kinema[ray]' ({error})") from error
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    for name in (
        "ray.data",
        "ray.data._internal.execution.streaming_executor",
        "ray.data._internal.progress",
    ):
        logging.getLogger(name).setLevel(logging.ERROR)
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a lost block is noticed and tried again here
    return ray
