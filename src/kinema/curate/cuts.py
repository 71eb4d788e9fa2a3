"""Transitions between shots, found in one pass over small frames.

A cascade at three frame rates, each level with its own threshold: hard cuts at the native rate
(`cuts_hard`), fades and dissolves with their extent at about 8 and about 3 frames a second
(`cuts_gradual`). Both keep a bounded window, so a source of any length fits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from kinema.curate.cuts_gradual import GradualCutConfig, GradualCuts, Ramp
from kinema.curate.cuts_hard import HardCutConfig, HardCuts

SMALL_WIDTH = 80
"""Width in pixels of the frames that `CutDetector.push` wants; wider ones work but cost more."""

TransitionKind = Literal["hard", "fade", "dissolve"]


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """The levels of the cascade."""

    hard: HardCutConfig = field(default_factory=HardCutConfig)
    gradual: GradualCutConfig = field(default_factory=GradualCutConfig)


@dataclass(frozen=True, kw_only=True)
class Transition:
    """`start_index`: the first frame that is not purely the old shot; `end_index`: the first frame that
    is purely the new one. A hard cut has both equal. Indices count the frames that were pushed; a fade
    that opens the source starts at 0, one that ends it ends at the number of frames.

    `confidence` in (0, 1] says how far the evidence lies beyond the thresholds.
    """

    start_index: int
    end_index: int
    kind: TransitionKind
    confidence: float = 1.0


class CutDetector:
    """Push every frame in order of time, then `finish`."""

    def __init__(self, config: CutConfig | None = None) -> None:
        self.config = config or CutConfig()
        self._hard = HardCuts(self.config.hard)
        self._gradual = GradualCuts(self.config.gradual)
        self._pushed = 0

    def push(self, frame: UInt8[np.ndarray, "h w 3"], time_s: float) -> None:
        """Add the next decoded frame, scaled to about `SMALL_WIDTH`; all frames of one size."""
        self._hard.push(frame, time_s)
        if self._gradual.push(frame, time_s, self._pushed):
            self._hard.decide(final=False)
            self._gradual.decide([index for index, _ in self._hard.found], final=False)
        self._pushed += 1

    def finish(self) -> list[Transition]:
        """All transitions of the source, in order."""
        self._hard.decide(final=True)
        cuts = [index for index, _ in self._hard.found]
        self._gradual.decide(cuts, final=True)
        gradual = [_transition(ramp) for ramp in self._gradual.joined(self._pushed)]
        hard = [
            Transition(start_index=index, end_index=index, kind="hard", confidence=min(score / 4, 1.0))
            for index, score in self._hard.found
            if not any(_touches(index, found) for found in gradual)
        ]
        return sorted(hard + gradual, key=lambda found: (found.start_index, found.end_index))


def _transition(ramp: Ramp) -> Transition:
    return Transition(
        start_index=ramp.start, end_index=ramp.end, kind=ramp.kind, confidence=1 / (1 + ramp.doubt)
    )


def _touches(index: int, found: Transition) -> bool:
    return found.start_index - 1 <= index <= found.end_index + 1
