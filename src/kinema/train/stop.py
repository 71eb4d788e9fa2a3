"""Ctrl-C, SIGTERM and the death of the launcher as a wish that the loop grants between two steps."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopWish:
    """Why to stop, or None. A launched process that outlives its launcher would train on unseen."""

    signal_name: str | None = None
    launcher: int | None = None

    @property
    def reason(self) -> str | None:
        """The name of a signal, or words."""
        if self.signal_name is None and self.launcher not in {None, os.getppid()}:
            return "the death of its launcher"
        return self.signal_name


@contextmanager
def stop_wish(launched: bool = False) -> Iterator[StopWish]:
    """Within the block the first signal only sets the wish; a second one interrupts at once.

    A launched process gets Ctrl-C twice, from the terminal and from its launcher: there a second signal
    means nothing new, and the launcher ends whoever takes too long. Outside the main thread signals cannot
    be caught, and the wish is never set.
    """
    wish = StopWish(launcher=os.getppid() if launched else None)
    if threading.current_thread() is not threading.main_thread():
        yield wish
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        if wish.signal_name is not None and not launched:
            raise KeyboardInterrupt
        wish.signal_name = signal.Signals(number).name

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
