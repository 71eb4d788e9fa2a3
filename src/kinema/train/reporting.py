"""What a run says while it goes on: a row a step, a line now and then, and how it ended."""

from __future__ import annotations

import statistics
import time
import traceback
from collections import deque
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from kinema.errors import Interrupted, KinemaError
from kinema.progress import Progress
from kinema.runlog import RunLog
from kinema.train.setup import Run

_WINDOW = 50


class Reporter(AbstractContextManager["Reporter"]):
    """Rank 0 writes and speaks; the others keep still."""

    def __init__(self, run: Run, progress: Progress) -> None:
        self._run, self._progress = run, progress
        self.log = (
            RunLog(
                run.folder,
                start_step=run.state.step,
                tensorboard=run.config.tensorboard,
                wandb=run.config.wandb,
            )
            if run.world.main
            else None
        )
        self._began = time.monotonic()
        self._ends: deque[float] = deque(maxlen=_WINDOW + 1)
        self._losses: deque[float] = deque(maxlen=run.config.log_every)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.log is not None:
            failed = _outcome(error) == "failed"
            self.log.close(self._run.state.step, _outcome(error), _told(error) if failed and error else None)

    def start(self) -> None:
        """Begin the bar where the run begins."""
        self._progress.stage("train", self._run.config.steps)
        self._progress.advance(self._run.state.step)
        self._ends.append(time.monotonic())

    def step(self, row: dict[str, Any]) -> None:
        """A step is done."""
        state, config = self._run.state, self._run.config
        if self.log is None:
            return
        self._ends.append(time.monotonic())
        row = row | {"elapsed_s": round(time.monotonic() - self._began, 3)}
        self._losses.append(row["loss"])
        self.log.step(state.step - 1, **row)
        self._progress.advance(note=f"loss {row['loss']:.4f}  {self._left()} left")
        if state.step % config.log_every == 0 or state.step == config.steps:
            self._progress.line(self._line(row))

    def say(self, text: str) -> None:
        """A line of rank 0."""
        if self.log is not None:
            self._progress.line(text)

    def _line(self, row: dict[str, Any]) -> str:
        return (
            f"step {self._run.state.step}/{self._run.config.steps}  loss {statistics.fmean(self._losses):.4f}"
            f"  grad {row['grad_norm']:.3g}  lr {row['lr']:.2e}  {self._pace():.3g} s/step"
            f"  data {row['data_s']:.3g} s  left {self._left()}"
        )

    def _pace(self) -> float:
        """Seconds a step, all that is done between steps included, over the last ones."""
        return (self._ends[-1] - self._ends[0]) / max(1, len(self._ends) - 1)

    def _left(self) -> str:
        seconds = round(self._pace() * (self._run.config.steps - self._run.state.step))
        hours, minutes = seconds // 3600, seconds // 60 % 60
        return f"{hours // 24}d {hours % 24}h" if hours >= 24 else f"{hours}:{minutes:02}:{seconds % 60:02}"


def _told(error: BaseException) -> str:
    """What the heartbeat keeps: a known mistake in its own words, anything else with its traceback."""
    if isinstance(error, KinemaError):
        return str(error)
    return "".join(traceback.format_exception(error))[-4000:]


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "done"
    return "stopped" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"
