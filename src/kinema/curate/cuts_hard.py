"""Hard cuts at the native frame rate: one step between frames that nothing nearby undoes or equals.

Conditions on the step from frame t-1 to t, in grey levels of mean absolute difference: the step is a local
peak; every frame shortly before differs from every frame shortly after (a flash returns to where it was, so
its smallest difference is small); that smallest difference stands out from the steps around it (a whip pan
has many large steps in a row); and where it stands out only a little, the pictures are also unlike.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from kinema.curate.cuts_ramp import likeness, tiny


@dataclass(frozen=True, kw_only=True)
class HardCutConfig:
    """`threshold`: smallest difference across the cut, grey levels; `ratio`: of that difference to the
    largest step nearby; up to `sure_ratio` the correlation of the pictures must be below `likeness`;
    `reach_s`: what is nearby, also the longest flash that is looked through."""

    threshold: float = 9.0
    ratio: float = 1.7
    sure_ratio: float = 3.0
    likeness: float = 0.85
    reach_s: float = 0.25

    def __post_init__(self) -> None:
        if min(self.threshold, self.ratio, self.reach_s) <= 0 or self.sure_ratio < self.ratio:
            raise ValueError(f"limits must be positive and sure_ratio >= ratio, got {self}")


_CHUNK = 128
_MIN_REACH, _MAX_REACH = 3, 30
_QUIET = 2.0
_STRONG = 25.0


class HardCuts:
    """Native level of the cascade. Holds about `_CHUNK` small frames.

    `found` holds (index, score): how many times the cut exceeds its thresholds. `refused` holds peaks that
    are no cut and yet reach `floor` times the thresholds.
    """

    def __init__(self, config: HardCutConfig, floor: float = 1.0) -> None:
        self.config = config
        self.found: list[tuple[int, float]] = []
        self.refused: list[tuple[int, float]] = []
        self._floor = floor
        self._frames: list[NDArray[np.uint8]] = []
        self._times: list[float] = []
        self._steps: list[float] = []
        self._first = 0
        self._decided = 1

    def push(self, frame: UInt8[np.ndarray, "h w 3"], time_s: float) -> None:
        self._steps.append(_distance(frame, self._frames[-1]) if self._frames else 0.0)
        self._frames.append(frame)
        self._times.append(time_s)
        if len(self._frames) >= _CHUNK + 3 * _MAX_REACH:
            self.decide(final=False)

    def decide(self, *, final: bool) -> None:
        """Judge every frame that has its surroundings, then forget what is no longer needed."""
        last = self._first + len(self._frames)
        until = last if final else last - _MAX_REACH
        reach = self._reach()
        steps = np.asarray(self._steps)
        for index in range(self._decided, until):
            score, is_cut = self._score(steps, index - self._first, reach)
            if score > 0:
                (self.found if is_cut else self.refused).append((index, score))
        self._decided = max(until, self._decided)
        keep_from = max(self._decided - 2 * _MAX_REACH - self._first, 0)
        del self._frames[:keep_from], self._times[:keep_from], self._steps[:keep_from]
        self._first += keep_from

    def _reach(self) -> int:
        if len(self._times) < 2 or self._times[-1] <= self._times[0]:
            return _MIN_REACH
        fps = (len(self._times) - 1) / (self._times[-1] - self._times[0])
        return int(np.clip(round(self.config.reach_s * fps), _MIN_REACH, _MAX_REACH))

    def _score(self, steps: Float[np.ndarray, " n"], at: int, reach: int) -> tuple[float, bool]:
        """How many times the thresholds are reached, 0 below the floor, and whether it is a cut."""
        step = steps[at]
        if at < 1 or step < self._floor * self.config.threshold or step < steps[at - 1 : at + 2].max():
            return 0.0, False
        needed = max(self.config.threshold, self.config.ratio * (_activity(steps, at, reach) + _QUIET))
        if step < self._floor * needed:
            return 0.0, False
        across = self._across(at, reach)
        if across < self._floor * needed:
            return 0.0, False
        sure = across >= needed * self.config.sure_ratio / self.config.ratio
        return across / needed, across >= needed and (sure or self._unlike(at, reach))

    def _unlike(self, at: int, reach: int) -> bool:
        before = [tiny(frame) for frame in self._frames[max(at - reach, 0) : at]]
        after = [tiny(frame) for frame in self._frames[at : at + reach]]
        return all(likeness(old, new) < self.config.likeness for old in before for new in after)

    def _across(self, at: int, reach: int) -> float:
        """Smallest difference between a frame shortly before and a frame shortly after."""
        before = self._frames[max(at - reach, 0) : at]
        after = self._frames[at : at + reach]
        return min(_distance(old, new) for old in before for new in after)


def _activity(steps: Float[np.ndarray, " n"], at: int, reach: int) -> float:
    """Largest step nearby, other strong isolated peaks (cuts, flashes) left out."""
    largest = 0.0
    for index in range(max(at - reach, 1), min(at + reach + 1, len(steps))):
        if abs(index - at) >= 1 and not (abs(index - at) > 2 and _isolated_peak(steps, index)):
            largest = max(largest, float(steps[index]))
    return largest


def _isolated_peak(steps: Float[np.ndarray, " n"], at: int) -> bool:
    around = np.r_[steps[max(at - 2, 0) : at], steps[at + 1 : at + 3]]
    return bool(steps[at] >= _STRONG and (not around.size or steps[at] >= 3 * around.max()))


def _distance(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Mean absolute difference of two small frames in grey levels."""
    return float(cv2.norm(left, right, cv2.NORM_L1)) / left.size
