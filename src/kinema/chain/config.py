"""A chain of runs: which recipe, from which earlier model, on which clips."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True, kw_only=True)
class ChainRun:
    """`recipe` as for kinema train, with `changes` (KEY=VALUE) laid over it.

    `start_from` is the name of an earlier run: input channels and conditions that this one has besides begin
    at zero, so that it first makes what that one made. `dataset` is the name of another dataset than the
    chain's own. With `camera_motion` only clips with one of these labels train it; with `turn_portrait` clips
    that are higher than wide are turned by a quarter.
    """

    name: str
    recipe: str
    start_from: str = ""
    dataset: str = ""
    camera_motion: tuple[str, ...] = ()
    turn_portrait: bool = False
    changes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"a run is named in a-z, 0-9, - and _, got {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class ChainConfig:
    """The runs in order; each goes into a folder of its name."""

    run: tuple[ChainRun, ...] = ()

    def __post_init__(self) -> None:
        if not self.run:
            raise ValueError("a chain needs at least one [[run]]")
        earlier = list[str]()
        for run in self.run:
            if run.name in earlier:
                raise ValueError(f"two runs are called {run.name!r}")
            if run.start_from and run.start_from not in earlier:
                known = ", ".join(earlier) or "none"
                raise ValueError(
                    f"run {run.name!r} starts from {run.start_from!r}, which is not before it: {known}"
                )
            earlier.append(run.name)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets beside the chain's own."""
        return tuple(dict.fromkeys(run.dataset for run in self.run if run.dataset))
