"""Transitions between shots, found in one pass over small frames.

A cascade at three frame rates, each level with its own threshold: hard cuts at the native rate
(`cuts_hard`), fades and dissolves with their extent at about 8 and about 3 frames a second
(`cuts_gradual`). Both keep a bounded window, so a source of any length fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from kinema.curate.cuts_gradual import GradualCutConfig, GradualCuts, Ramp
from kinema.curate.cuts_hard import HardCutConfig, HardCuts
from kinema.curate.cuts_neural import Network, NeuralCutConfig, SecondOpinion
from kinema.curate.cuts_transition import Transition, TransitionKind

__all__ = ["SMALL_WIDTH", "CutConfig", "CutDetector", "Transition", "TransitionKind"]

SMALL_WIDTH = 80
"""Width in pixels of the frames that `CutDetector.push` wants; wider ones work but cost more."""


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """The levels of the cascade, and the network that may be asked where they are unsure."""

    hard: HardCutConfig = field(default_factory=HardCutConfig)
    gradual: GradualCutConfig = field(default_factory=GradualCutConfig)
    neural: NeuralCutConfig = field(default_factory=NeuralCutConfig)


class CutDetector:
    """Push every frame in order of time, then `finish`. `network` stands in for the installed one."""

    def __init__(self, config: CutConfig | None = None, network: Network | None = None) -> None:
        self.config = config or CutConfig()
        neural = self.config.neural
        asks = network is not None or neural.active
        self.second = SecondOpinion(neural, network) if asks else None
        self._hard = HardCuts(self.config.hard, neural.floor if asks else 1.0)
        self._gradual = GradualCuts(self.config.gradual, neural.slack if asks else 1.0)
        self._pushed = 0

    def push(self, frame: UInt8[np.ndarray, "h w 3"], time_s: float) -> None:
        """Add the next decoded frame, scaled to about `SMALL_WIDTH`; all frames of one size."""
        self._hard.push(frame, time_s)
        if self._gradual.push(frame, time_s, self._pushed):
            self._hard.decide(final=False)
            self._gradual.decide([index for index, _ in self._hard.found], final=False)
        if self.second is not None:
            self.second.push(frame)
        self._pushed += 1

    def finish(self) -> list[Transition]:
        """All transitions of the source, in order."""
        self._hard.decide(final=True)
        cuts = [index for index, _ in self._hard.found]
        self._gradual.decide(cuts, final=True)
        gradual = [_gradual(ramp) for ramp in self._gradual.joined(self._pushed)]
        found = gradual + [one for one in _hard(self._hard.found) if not _near_any(one, gradual)]
        if self.second is not None:
            refused = [*_hard(self._hard.refused), *(_gradual(ramp) for ramp in self._gradual.refused)]
            doubtful = [one for one in found if self._is_doubtful(one)]
            found = self.second.settle([one for one in found if one not in doubtful], doubtful, refused)
        return sorted(found, key=lambda found: (found.start_index, found.end_index))

    def _is_doubtful(self, found: Transition) -> bool:
        neural = self.config.neural
        sure = neural.sure_score / _SCORE if found.kind == "hard" else 1 / (1 + neural.sure_doubt)
        return found.confidence < sure


_SCORE = 4.0


def _hard(cuts: Iterable[tuple[int, float]]) -> list[Transition]:
    return [
        Transition(start_index=index, end_index=index, kind="hard", confidence=min(score / _SCORE, 1.0))
        for index, score in cuts
    ]


def _gradual(ramp: Ramp) -> Transition:
    return Transition(
        start_index=ramp.start, end_index=ramp.end, kind=ramp.kind, confidence=1 / (1 + ramp.doubt)
    )


def _near_any(cut: Transition, others: Iterable[Transition]) -> bool:
    return any(other.touches(cut.start_index, cut.end_index) for other in others)
