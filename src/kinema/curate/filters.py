"""Which clips are kept: a pure function of the rows, so that filtering again needs no decoding."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from kinema.manifest import Clip


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """What a score may be. None is no bound; `drop_lowest` and `drop_highest` are fractions of all clips that
    have the score, whatever the other filters say of them. Clips with equal scores share one fate, so that
    less than the fraction may fall."""

    min: float | None = None
    max: float | None = None
    drop_lowest: float = 0.0
    drop_highest: float = 0.0

    def __post_init__(self) -> None:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min must not be above max, got {self.min} and {self.max}")
        if min(self.drop_lowest, self.drop_highest) < 0 or self.drop_lowest + self.drop_highest >= 1:
            raise ValueError(
                "drop_lowest and drop_highest must be 0 or more and together below 1, "
                f"got {self.drop_lowest} and {self.drop_highest}"
            )


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """A score that was not computed drops nothing; images have no duration and no motion.

    `side` is the shorter one, in pixels; `aspect_ratio` is height / width. `near_duplicates` drops all but
    the best of clips that show the same; `camera_motion` names the kinds of camera motion to drop.
    """

    duration_s: Bounds = field(default_factory=lambda: Bounds(min=1.0))
    side: Bounds = field(default_factory=lambda: Bounds(min=64))
    aspect_ratio: Bounds = field(default_factory=Bounds)
    fps: Bounds = field(default_factory=Bounds)
    motion_score: Bounds = field(default_factory=lambda: Bounds(min=0.05))
    text_area: Bounds = field(default_factory=lambda: Bounds(max=0.07))
    aesthetic_score: Bounds = field(default_factory=Bounds)
    technical_quality: Bounds = field(default_factory=Bounds)
    brightness: Bounds = field(default_factory=Bounds)
    black_frames: Bounds = field(default_factory=lambda: Bounds(max=0.5))
    frozen_frames: Bounds = field(default_factory=Bounds)
    text_match: Bounds = field(default_factory=Bounds)
    near_duplicates: bool = True
    camera_motion: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.camera_motion)) < len(self.camera_motion):
            raise ValueError(f"camera_motion names a kind twice: {', '.join(self.camera_motion)}")

    def without_fractions(self) -> FilterConfig:
        """What can be said of some of the clips before all are known."""
        plain: dict[str, Any] = {
            name: replace(bounds, drop_lowest=0.0, drop_highest=0.0) for name, bounds in self.bounds().items()
        }
        return replace(self, **plain)

    def bounds(self) -> dict[str, Bounds]:
        """The bounds by the name of their score."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Bounds)}


SCORES = tuple(FilterConfig().bounds())
"""Every score that has bounds, in the order in which reasons are given."""

_STILL_HAVE_NONE = {"duration_s", "fps", "motion_score"}


@dataclass(frozen=True)
class Scores:
    """The columns that filters look at, one entry a clip; nan is not measured."""

    values: Mapping[str, Float[np.ndarray, " n"]]
    camera_motion: Sequence[str | None]
    near_duplicate: Bool[np.ndarray, " n"]


@dataclass(frozen=True)
class Check:
    """One filter: the clips that it drops, why, the score at which it cuts, and what `--set` takes for it."""

    score: str
    reason: str
    threshold: float | None
    below: bool
    broken: Bool[np.ndarray, " n"]
    setting: str


def scores_of(clips: Sequence[Clip]) -> Scores:
    """The columns of these rows."""
    columns = {name: [getattr(clip, name) for clip in clips] for name in SCORES if name != "side"}
    columns["side"] = [min(clip.height, clip.width) for clip in clips]
    values = {name: np.array(columns[name], np.float64) for name in SCORES}
    return Scores(
        without_stills(values, np.array([clip.frames for clip in clips])),
        [clip.camera_motion for clip in clips],
        np.array([clip.near_duplicate_of is not None for clip in clips], bool),
    )


def without_stills(
    values: Mapping[str, Float[np.ndarray, " n"]], frames: np.ndarray
) -> dict[str, Float[np.ndarray, " n"]]:
    """One-frame sources at rate 0 have no duration, rate or motion to be judged by."""
    still = (frames == 1) & (values["fps"] == 0)
    return {
        name: np.where(still, np.nan, column) if name in _STILL_HAVE_NONE else column
        for name, column in values.items()
    }


def checks(scores: Scores, config: FilterConfig) -> list[Check]:
    """Every filter that is set, in order, also those that drop nothing."""
    found = [
        check
        for name, bounds in config.bounds().items()
        for check in _checks_of(name, scores.values[name], bounds)
    ]
    if config.near_duplicates:
        broken, setting = scores.near_duplicate, "near_duplicates=true"
        found.append(Check("near_duplicate_of", "near duplicate", None, False, broken, setting))
    for kind in config.camera_motion:
        broken = np.array([motion == kind for motion in scores.camera_motion], bool)
        setting = f'camera_motion=["{kind}"]'
        found.append(Check("camera_motion", f"camera_motion is {kind}", None, False, broken, setting))
    return found


def reasons(found: Sequence[Check], count: int) -> list[tuple[str, ...]]:
    """The reasons of each of `count` clips."""
    lists: list[list[str]] = [[] for _ in range(count)]
    for check in found:
        for index in np.flatnonzero(check.broken):
            lists[index].append(check.reason)
    return [tuple(item) for item in lists]


def filtered(clips: Sequence[Clip], config: FilterConfig) -> list[Clip]:
    """The clips with `kept` and `drop_reasons` set anew; fractions are of these clips."""
    found = reasons(checks(scores_of(clips), config), len(clips))
    return [replace(clip, kept=not why, drop_reasons=why) for clip, why in zip(clips, found, strict=True)]


def _checks_of(name: str, values: Float[np.ndarray, " n"], bounds: Bounds) -> list[Check]:
    found = []
    if bounds.min is not None:
        reason, setting = f"{name} < {bounds.min:g}", f"{name}.min={bounds.min:g}"
        found.append(Check(name, reason, bounds.min, True, values < bounds.min, setting))
    if bounds.max is not None:
        reason, setting = f"{name} > {bounds.max:g}", f"{name}.max={bounds.max:g}"
        found.append(Check(name, reason, bounds.max, False, values > bounds.max, setting))
    if bounds.drop_lowest:
        reason, cut = f"{name} in the lowest {_percent(bounds.drop_lowest)}", _cut(values, bounds.drop_lowest)
        setting = f"{name}.drop_lowest={bounds.drop_lowest:g}"
        found.append(Check(name, reason, cut, True, values < _or_nan(cut), setting))
    if bounds.drop_highest:
        reason = f"{name} in the highest {_percent(bounds.drop_highest)}"
        cut = _negative(_cut(-values, bounds.drop_highest))
        setting = f"{name}.drop_highest={bounds.drop_highest:g}"
        found.append(Check(name, reason, cut, False, values > _or_nan(cut), setting))
    return found


def _cut(values: Float[np.ndarray, " n"], fraction: float) -> float | None:
    """The score below which at most `fraction` of the measured ones lie."""
    measured = np.sort(values[~np.isnan(values)])
    if not len(measured):
        return None
    return float(measured[math.floor(fraction * len(measured) + 1e-9)])


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"
