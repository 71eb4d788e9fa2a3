"""Processes that do one task at a time, watched from outside: a task can be killed, its process replaced.

The watch is in the parent, because a decoder that hangs in C code stops every thread of its own process.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

_TASKS_PER_WORKER = 100  # then it is replaced, so that no leak in a decoder grows without bound
_WATCH_S = 0.25
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What one task may cost. Memory is that of the process, and is watched where /proc tells it."""

    seconds: float = float("inf")
    memory_mb: float = float("inf")


@dataclass(frozen=True)
class WorkerDied:
    """The process that did a task was killed by someone else."""


@dataclass(frozen=True)
class OverBudget:
    """The process that did a task was killed because it cost too much."""

    reason: str


@dataclass(frozen=True)
class _Raised:
    """A defect: the task's function raised."""

    error: BaseException


class Worker(Generic[Task, Result]):
    """One process and the task that it is doing, if any."""

    def __init__(self, function: Callable[[Task], Result]) -> None:
        self._function = function
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None
        self._tasks = 0
        self.task: Task | None = None
        self._budget = Budget()
        self._deadline = float("inf")

    @property
    def busy(self) -> bool:
        """Whether a task is under way."""
        return self.task is not None

    def begin(self, task: Task, budget: Budget) -> None:
        """Send a task; a process is started when there is none that can take it."""
        if self._process is not None and self._tasks >= _TASKS_PER_WORKER:
            self.end()
        try:
            self._send(task, budget)
        except OSError:  # its process was killed while it had nothing to do
            self.end()
            self._send(task, budget)

    def _send(self, task: Task, budget: Budget) -> None:
        if self._connection is None:
            self._start()
        assert self._connection is not None
        self._connection.send(task)
        self.task, self._budget = task, budget
        self._deadline = time.monotonic() + budget.seconds
        self._tasks += 1

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, self._function), daemon=True)
        self._process.start()
        theirs.close()
        self._tasks = 0

    def poll(self) -> Result | WorkerDied | OverBudget | None:
        """The task's outcome, or None while it is under way. Raises what the task's function raised."""
        assert self._connection is not None
        if self._connection.poll():
            return self._received(self._connection)
        if reason := self._over():
            self.end()
            return OverBudget(reason)
        return None

    def _received(self, connection: Connection) -> Result | WorkerDied:
        self.task = None
        try:
            outcome: Result | _Raised = connection.recv()
        except (EOFError, OSError):
            self.end()
            return WorkerDied()
        if isinstance(outcome, _Raised):
            raise outcome.error
        return outcome

    def _over(self) -> str:
        if time.monotonic() > self._deadline:
            return f"took more than {self._budget.seconds:g} s"
        if self._resident_bytes() > self._budget.memory_mb * 2**20:
            return f"needs more than {self._budget.memory_mb:g} MB of memory"
        return ""

    def _resident_bytes(self) -> int:
        try:
            assert self._process is not None
            facts = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii")
        except OSError:
            return 0
        return int(facts.split()[1]) * _PAGE_BYTES

    def end(self) -> None:
        """Kill the process, whatever it does."""
        self.task = None
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None

    @property
    def connection(self) -> Connection:
        """Becomes readable when the task ends or the process dies."""
        assert self._connection is not None
        return self._connection


def wait_for_any(workers: Sequence[Worker[Task, Result]]) -> None:
    """Until one has something to tell, or it is time to look at what they cost."""
    wait([worker.connection for worker in workers], timeout=_WATCH_S)


def _serve(connection: Connection, function: Callable[[Task], Result]) -> None:
    """Ctrl-C ends a worker without a word, and so does the end of the main process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            task = connection.recv()
            connection.send(_outcome(function, task))


def _outcome(function: Callable[[Task], Result], task: Task) -> Result | _Raised:
    try:
        return function(task)
    except Exception as error:
        error.add_note("".join(traceback.format_exception(error)))
        return _Raised(error)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
