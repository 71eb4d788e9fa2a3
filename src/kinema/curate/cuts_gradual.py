"""Fades and dissolves: the two slower levels of the cascade.

Frames are compared about 8 and about 3 times a second; where a level's threshold is passed, a window
around it is fitted by one model: each frame inside is a mix `(1 - a) * old + a * new` of the frames at the
window's ends, and the weight `a` climbs from 0 to 1 along one straight ramp. The ramp's ends are the
extent. A camera that moves also ends in another picture, but what lies between is no mix of the ends.
A fade is the same ramp to or from a frame of one colour.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from kinema.curate.cuts_ramp import (
    LEAST_FRAMES,
    Tiny,
    doubt,
    fit_ramp,
    is_flat,
    likeness,
    mixing,
    out_of_step,
    shifted_likeness,
    tiny,
    unmoved_change,
)


@dataclass(frozen=True, kw_only=True)
class LevelConfig:
    """Compare frames `1 / fps` apart; at `threshold` grey levels fit windows of `half_s` either side."""

    fps: float
    threshold: float
    half_s: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.threshold <= 0 or not self.half_s:
            raise ValueError(f"fps and threshold must be positive and half_s not empty, got {self}")


@dataclass(frozen=True, kw_only=True)
class GradualCutConfig:
    """`change`: least grey levels between the ends; `likeness`: largest correlation of the ends (the same
    picture in another light is no transition); `doubt`: largest sum of the fit's faults (`Ramp.doubt`);
    `shifted`: largest correlation of the ramp's halves after a shift; `unmoved`: least share of the change
    that optical flow leaves unexplained; `step`: largest distance of the parts of the picture from the ramp;
    `flat`: largest contrast, in grey levels, of a frame of one colour."""

    levels: tuple[LevelConfig, ...] = (
        LevelConfig(fps=8.0, threshold=3.0, half_s=(0.45,)),
        LevelConfig(fps=3.0, threshold=5.0, half_s=(0.7, 1.1, 2.0)),
    )
    change: float = 10.0
    likeness: float = 0.72
    doubt: float = 1.45
    shifted: float = 0.88
    unmoved: float = 0.5
    step: float = 0.13
    flat: float = 4.0

    def __post_init__(self) -> None:
        if min(self.change, self.likeness, self.doubt, self.flat) <= 0 or not self.levels:
            raise ValueError(f"limits must be positive and levels not empty, got {self}")


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """A fitted transition between positions `start` (last old frame) and `end` (first new one).

    `doubt` sums the faults of the fit; for a dissolve the likeness of the ends is one of them. `refused`: it
    came near, but is none by the limits or because motion explains it.
    """

    start: int
    end: int
    kind: Literal["fade", "dissolve"]
    doubt: float
    refused: bool = False


_FADE_S = 1.5
_MAX_FPS = 32.0
_WINDOW_S, _MARGIN_S, _OVERLAP_S = 12.0, 2.5, 0.3
_WINDOW_FRAMES = 512


def find_dissolves(  # noqa: PLR0913, PLR0917 (what is known of a window)
    frames: Tiny,
    views: Sequence[UInt8[np.ndarray, "h w 3"]],
    times: NDArray[np.float64],
    cuts: list[int],
    config: GradualCutConfig,
    slack: float = 1.0,
) -> list[Ramp]:
    """The best fits that do not overlap. `cuts` are positions of hard cuts, which no window crosses.

    `frames` are tiny versions of the `views`. With a `slack` above 1 the refused ones up to so many times
    the largest doubt are there too.
    """
    fitted: dict[tuple[int, int], float] = {}
    for start, stop in _windows(frames, times, cuts, config):
        ramp = _fit(frames[start:stop], config, slack)
        if ramp is not None:
            key = (ramp.start + start, ramp.end + start)
            fitted[key] = min(ramp.doubt, fitted.get(key, np.inf))
    chosen: list[Ramp] = []
    moved: list[Ramp] = []
    for (start, end), doubts in sorted(fitted.items(), key=lambda item: item[1]):
        free = all(end <= other.start or start >= other.end for other in chosen)
        if not free or any(other.start <= (start + end) / 2 <= other.end for other in moved):
            continue
        refused = doubts > config.doubt or _moved(views, start, end, config)
        ramp = Ramp(start=start, end=end, kind="dissolve", doubt=doubts, refused=refused)
        (moved if refused else chosen).append(ramp)
    return sorted(chosen + (moved if slack > 1 else []), key=lambda ramp: ramp.start)


def find_fades(
    frames: Tiny,
    times: NDArray[np.float64],
    cuts: list[int],
    flat: NDArray[np.bool_],
    config: GradualCutConfig,
) -> list[Ramp]:
    """Ramps into and out of each run of flat frames, one by one; a fade through black gives two."""
    ramps = []
    edges = np.flatnonzero(np.diff(np.r_[False, flat, False].astype(np.int8)))
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        before = max([cut for cut in cuts if cut <= first], default=0)
        before = max(before, int(np.searchsorted(times, times[first] - _FADE_S)))
        ramps.append(_fit_fade(frames[before : first + 1], config, shift=before))
        after = min([cut for cut in cuts if cut >= stop], default=len(frames))
        after = min(after, int(np.searchsorted(times, times[stop - 1] + _FADE_S)))
        ramps.append(_fit_fade(frames[stop - 1 : after], config, shift=int(stop) - 1))
    return [ramp for ramp in ramps if ramp is not None]


def _windows(
    frames: Tiny, times: NDArray[np.float64], cuts: list[int], config: GradualCutConfig
) -> Iterator[tuple[int, int]]:
    """Half-open spans to fit, level by level; where no mix is possible they are left out."""
    bounds = np.array([0, *cuts, len(frames)])
    for level in config.levels:
        ticks = np.unique(np.searchsorted(times, np.arange(times[0], times[-1], 1 / level.fps) - 1e-6))
        steps = np.abs(np.diff(frames[ticks], axis=0)).mean(axis=1)
        for tick in np.flatnonzero(steps >= level.threshold):
            centre = (ticks[tick] + ticks[tick + 1]) // 2
            shot = int(np.searchsorted(bounds, centre, side="right"))
            for half_s in level.half_s:
                span = np.searchsorted(times, [times[centre] - half_s, times[centre] + half_s])
                start, stop = max(span[0], bounds[shot - 1]), min(span[1] + 1, bounds[shot])
                if _may_be_mix(frames[start:stop], config):
                    yield int(start), int(stop)


def _may_be_mix(frames: Tiny, config: GradualCutConfig) -> bool:
    """A cheap necessary condition: the ends differ, in structure too, and the middle lies between them."""
    if len(frames) < LEAST_FRAMES + 2:
        return False
    old, new, middle = frames[0], frames[-1], frames[len(frames) // 2]
    if np.abs(new - old).mean() < config.change or likeness(old, new) > config.likeness + 0.15:
        return False
    _, unmixed = mixing(middle[None], old, new)
    return bool(unmixed[0] < 0.7)


def _fit(frames: Tiny, config: GradualCutConfig, slack: float) -> Ramp | None:
    """Fit a ramp to the whole window, once more between the ends found, and judge it."""
    start, end = fit_ramp(frames)
    old, new = frames[start], frames[end]
    alike = likeness(old, new)
    if end - start < LEAST_FRAMES or np.abs(new - old).mean() < config.change or alike > config.likeness:
        return None
    if is_flat(old, config.flat) or is_flat(new, config.flat):
        return None
    doubts = doubt(frames, start, end) + max(alike, 0.0)
    fits = doubts <= config.doubt * slack
    return Ramp(start=start, end=end, kind="dissolve", doubt=doubts) if fits else None


def _moved(
    views: Sequence[UInt8[np.ndarray, "h w 3"]], start: int, end: int, config: GradualCutConfig
) -> bool:
    """Motion explains the change: the camera moved, or something in the picture, or something crossed it."""
    if out_of_step(views[start : end + 1]) > config.step:
        return True
    middle = views[(start + end) // 2]
    halves = shifted_likeness(views[start], middle), shifted_likeness(middle, views[end])
    if min(halves) > config.shifted:
        return True
    chosen = np.linspace(start, end, 5).round().astype(int)
    return bool(unmoved_change([views[index] for index in chosen]) < config.unmoved)


def _fit_fade(frames: Tiny, config: GradualCutConfig, shift: int) -> Ramp | None:
    if len(frames) < LEAST_FRAMES + 1 or np.abs(frames[-1] - frames[0]).mean() < config.change:
        return None
    start, end = fit_ramp(frames)
    if end - start < LEAST_FRAMES or np.abs(frames[end] - frames[start]).mean() < config.change:
        return None
    doubts = doubt(frames, start, end)
    ramp = Ramp(start=start + shift, end=end + shift, kind="fade", doubt=doubts)
    return ramp if doubts <= config.doubt else None


class GradualCuts:
    """Slow levels of the cascade over a moving window of tiny frames, at most `_MAX_FPS` of them a second."""

    def __init__(self, config: GradualCutConfig, slack: float = 1.0) -> None:
        self.config = config
        self.refused: list[Ramp] = []
        self._slack = slack
        self._ramps: list[Ramp] = []
        self._frames: list[NDArray[np.float32]] = []
        self._views: list[UInt8[np.ndarray, "h w 3"]] = []
        self._times: list[float] = []
        self._indices: list[int] = []
        self._flat: list[bool] = []
        self._seen: list[int] = []
        self._decided_s = -np.inf

    def push(self, frame: UInt8[np.ndarray, "h w 3"], time_s: float, index: int) -> bool:
        """True when enough frames wait for `decide`."""
        if self._times and time_s - self._times[-1] < 1 / _MAX_FPS:
            return False
        small = tiny(frame)
        self._frames.append(small)
        self._views.append(frame)
        self._times.append(time_s)
        self._indices.append(index)
        self._seen.append(index)
        self._flat.append(is_flat(small, self.config.flat))
        return self._times[-1] - self._times[0] >= _WINDOW_S or len(self._times) >= _WINDOW_FRAMES

    def decide(self, cuts: list[int], *, final: bool) -> None:
        """Fit what has its surroundings, given the hard cuts so far, then forget what is no longer needed."""
        if len(self._times) < 2:
            return
        times = np.asarray(self._times)
        until_s = np.inf if final else times[-1] - _MARGIN_S
        frames = np.stack(self._frames)
        positions = [int(np.searchsorted(self._indices, cut)) for cut in cuts if cut > self._indices[0]]
        inside = [position for position in positions if position < len(frames)]
        flat = np.asarray(self._flat[-len(frames) :])
        fades = find_fades(frames, times, inside, flat, self.config)
        for ramp in fades + find_dissolves(frames, self._views, times, inside, self.config, self._slack):
            if self._decided_s - _OVERLAP_S <= times[ramp.start] < until_s:
                (self.refused if ramp.refused else self._ramps).append(self._in_source(ramp))
        self._decided_s = until_s
        forget = 0 if final else int(np.searchsorted(times, until_s - _MARGIN_S))
        for held in (self._frames, self._views, self._times, self._indices):
            del held[:forget]

    def joined(self, frames: int) -> list[Ramp]:
        """Fades stretched over the flat frames beside them and joined; the best of overlapping dissolves."""
        fades = [self._stretched(ramp, frames) for ramp in self._ramps if ramp.kind == "fade"]
        chosen: list[Ramp] = []
        for ramp in sorted(fades, key=lambda ramp: ramp.start):
            if chosen and ramp.start <= chosen[-1].end:
                last = chosen[-1]
                end, doubts = max(last.end, ramp.end), min(last.doubt, ramp.doubt)
                chosen[-1] = replace(last, end=end, doubt=doubts)
            else:
                chosen.append(ramp)
        dissolves = [ramp for ramp in self._ramps if ramp.kind == "dissolve"]
        for ramp in sorted(dissolves, key=lambda ramp: ramp.doubt):
            if all(ramp.end <= other.start or ramp.start >= other.end for other in chosen):
                chosen.append(ramp)
        return sorted(chosen, key=lambda ramp: ramp.start)

    def _in_source(self, ramp: Ramp) -> Ramp:
        """Positions in the window to frame indices: the first that is not old, the first that is new."""
        return replace(ramp, start=self._indices[ramp.start] + 1, end=self._indices[ramp.end])

    def _stretched(self, ramp: Ramp, frames: int) -> Ramp:
        first = bisect_left(self._seen, ramp.start - 1)
        while first > 0 and self._flat[first] and self._flat[first - 1]:
            first -= 1
        last = bisect_left(self._seen, ramp.end)
        while last < len(self._seen) and self._flat[last]:
            last += 1
        start = self._seen[first] if self._flat[first] else ramp.start
        return replace(ramp, start=start, end=self._seen[last] if last < len(self._seen) else frames)
