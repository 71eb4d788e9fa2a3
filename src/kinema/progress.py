"""How long work tells how far it is: library code reports, only the command line draws."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """One bar at a time: `stage` begins the next one, `advance` moves it and may show a short note."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a new bar; `total` None means unknown."""
        ...

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Move the bar by `steps`."""
        ...

    def line(self, text: str) -> None:
        """A line that stays."""
        ...


class Silent:
    """Progress that nobody watches."""

    def stage(self, name: str, total: int | None = None) -> None:
        """Nothing."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Nothing."""

    def line(self, text: str) -> None:
        """Nothing."""
