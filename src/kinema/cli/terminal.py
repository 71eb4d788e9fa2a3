"""What a person sees: bars while work runs, one summary at its end, one line when it cannot."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.text import Text

_QUIET_S = 30.0
"""Off a terminal, a stage that goes on tells how far it is this often."""


class _TimeLeft(TimeRemainingColumn):
    """Nothing where the note tells the time that is left: it knows more than the count of steps."""

    def render(self, task: Task) -> Text:
        return Text() if "left" in task.fields["note"] else Text("left ") + super().render(task)


class Bars(AbstractContextManager["Bars"]):
    """`progress.Progress` on stderr: a bar on a terminal, otherwise one line per stage and half a minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._told_s = clock()
        console = Console(stderr=True)
        self._drawn = console.is_terminal
        self._bars = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            _TimeLeft(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not self._drawn,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a new bar; the one before it stays, as it ended."""
        if self._task is not None:
            self._bars.stop_task(self._task)
        if not self._drawn:
            tell(name if total is None else f"{name} ({total})")
            self._told_s = self._clock()
        self._task = self._bars.add_task(name, total=total, note="")

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar; the note stays until another takes its place."""
        if self._task is None:
            return
        if note:
            self._bars.update(self._task, advance=steps, note=note)
        else:
            self._bars.advance(self._task, steps)
        if not self._drawn and self._clock() - self._told_s >= _QUIET_S:
            self._told_s = self._clock()
            tell(_how_far(self._bars.tasks[-1]))

    def line(self, text: str) -> None:
        """A line that stays, above the bar where there is one."""
        if self._drawn:
            self._bars.console.print(text, markup=False, highlight=False)
        else:
            tell(text)


def _how_far(task: Task) -> str:
    total = "" if task.total is None else f"/{task.total:.0f}"
    return ", ".join(filter(None, (f"{task.description} {task.completed:.0f}{total}", task.fields["note"])))


def tell(line: str) -> None:
    """One plain line on stderr."""
    print(line, file=sys.stderr, flush=True)


def show(summary: Mapping[str, Any], *, as_json: bool, text: str | None = None) -> None:
    """The summary on stdout: one JSON object on one line, or `text`, or a table of names and values."""
    if as_json:
        print(json.dumps(summary, default=str, allow_nan=False), flush=True)
    else:
        print(text if text is not None else "\n".join(_rows(summary)), flush=True)


def _rows(summary: Mapping[str, Any], indent: str = "") -> list[str]:
    width = max((len(name) for name in summary), default=0)
    rows = list[str]()
    for name, value in summary.items():
        if isinstance(value, dict) and value:
            rows += [f"{indent}{name}", *_rows(value, indent + "  ")]
        else:
            rows.append(f"{indent}{name:<{width}}  {_value(value)}")
    return rows


def _value(value: object) -> str:
    match value:
        case float():
            return f"{value:.4g}"
        case list() | tuple():
            return ", ".join(_value(item) for item in value) or "none"
        case dict() | None:
            return "none"
        case _:
            return str(value)
