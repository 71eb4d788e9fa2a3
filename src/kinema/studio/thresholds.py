"""Histograms of the scores, and what remains when a threshold is moved: counted over all clips at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from kinema.curate.filters import SCORES, Bounds, Check, FilterConfig, Scores, checks
from kinema.curate.measured import CAMERA_WORDS
from kinema.curate.verdicts import BY_HAND, Verdict
from kinema.errors import ConfigError

BARS = 48
BORDER = 6
_FRACTIONS = ("drop_lowest", "drop_highest")


@dataclass(frozen=True)
class Axis:
    """Where values stand on a chart, from 0 to 1. The few that lie beyond its ends stand in the end bars."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, values: Float[np.ndarray, " n"]) -> Axis | None:
        """An axis for these values; None when there is nothing to show."""
        measured = values[np.isfinite(values)]
        if not len(measured):
            return None
        low, tenth, high, most = (float(item) for item in np.quantile(measured, [0, 0.1, 0.998, 1]))
        high = most if most < 1.5 * high or high <= low else high
        if high <= low:
            return cls(low - 0.5, low + 0.5, logarithmic=False)
        return cls(low, high, logarithmic=low > 0 and high / tenth > 20)

    def places(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Each value's place, from 0 to 1."""
        low, high = self.low, self.high
        if self.logarithmic:
            values, low, high = np.log(np.maximum(values, self.low)), math.log(self.low), math.log(self.high)
        return np.asarray(np.clip((values - low) / (high - low), 0, 1))

    def place(self, value: float) -> float:
        """One value's place."""
        return float(self.places(np.array([value]))[0])

    def value(self, place: float) -> float:
        """The value at a place."""
        if self.logarithmic:
            return math.exp(math.log(self.low) + place * (math.log(self.high) - math.log(self.low)))
        return self.low + place * (self.high - self.low)

    def ticks(self) -> list[tuple[float, float]]:
        """(place, value) of five marks."""
        return [(share, self.value(share)) for share in (0, 0.25, 0.5, 0.75, 1)]


@dataclass(frozen=True)
class Bar:
    """`x` and heights are thousandths of the chart."""

    x: float
    width: float
    kept: float
    dropped: float


@dataclass(frozen=True)
class Chart:
    """One score: its bars under the filters as they are asked for, and its own bounds."""

    score: str
    axis: Axis
    bars: list[Bar]
    bounds: Bounds
    measured: int
    dropped: int


@dataclass(frozen=True)
class Remains:
    """What the filters leave; `changed` counts clips whose fate is not what it is on disk."""

    clips: int
    hours: float
    all_clips: int
    all_hours: float
    changed: int
    reasons: list[tuple[str, int]]
    charts: list[Chart]


@dataclass(frozen=True)
class Border:
    """The clips next to a threshold: numbers of rows, nearest first on either side."""

    check: Check
    dropped: list[int]
    kept: list[int]


class Histograms:
    """The scores of a dataset in bars; made once for a state of the table, counted at every move."""

    def __init__(self, scores: Scores, table: pa.Table, verdicts: Mapping[str, Verdict]) -> None:
        self._scores = scores
        self.clip_ids = table["clip_id"].to_numpy(zero_copy_only=False)
        self._kept = np.asarray(table["kept"].to_numpy(zero_copy_only=False), bool)
        seconds = np.asarray(table["duration_s"].to_numpy(zero_copy_only=False), np.float64)
        self._hours = np.nan_to_num(seconds) / 3600
        axes = {name: Axis.of(scores.values[name]) for name in SCORES}
        self.axes = {name: axis for name, axis in axes.items() if axis is not None}
        self._bars = {name: _bar_numbers(axis, scores.values[name]) for name, axis in self.axes.items()}
        judged = [verdicts.get(str(clip_id)) for clip_id in self.clip_ids] if verdicts else []
        self._by_hand_kept = np.array([item is not None and bool(item.kept) for item in judged], bool)
        self._by_hand_dropped = np.array([item is not None and not item.kept for item in judged], bool)

    def remains(self, config: FilterConfig) -> tuple[Remains, list[Check]]:
        """Counts under these filters."""
        found = checks(self._scores, config)
        dropped = np.zeros(len(self._kept), bool)
        for check in found:
            dropped |= check.broken
        reasons = [(check.reason, int(check.broken.sum())) for check in found]
        if len(self._by_hand_kept):
            dropped = (dropped & ~self._by_hand_kept) | self._by_hand_dropped
            reasons.append((BY_HAND, int(self._by_hand_dropped.sum())))
        kept = ~dropped
        remains = Remains(
            clips=int(kept.sum()),
            hours=float(self._hours[kept].sum()),
            all_clips=len(kept),
            all_hours=float(self._hours.sum()),
            changed=int((kept != self._kept).sum()),
            reasons=sorted((item for item in reasons if item[1]), key=lambda item: -item[1]),
            charts=[self._chart(name, kept, config.bounds()[name], found) for name in self.axes],
        )
        return remains, found

    def border(self, found: list[Check], moved: str) -> Border | None:
        """The clips on either side of the threshold that was moved last, such as motion_score.min."""
        score, _, bound = moved.partition(".")
        below = bound in ("min", "drop_lowest")
        check = next((item for item in found if item.score == score and item.below == below), None)
        if check is None or check.threshold is None or score not in self.axes:
            return None
        distance = np.abs(self._scores.values[score] - check.threshold)
        measured = ~np.isnan(distance)
        return Border(
            check,
            _nearest(distance, check.broken & measured),
            _nearest(distance, ~check.broken & measured),
        )

    def value(self, score: str, row: int) -> float:
        """A clip's score."""
        return float(self._scores.values[score][row])

    def _chart(self, name: str, kept: Bool[np.ndarray, " n"], bounds: Bounds, found: list[Check]) -> Chart:
        numbers = self._bars[name]
        measured = numbers >= 0
        inside = np.bincount(numbers[measured & kept], minlength=BARS)
        outside = np.bincount(numbers[measured & ~kept], minlength=BARS)
        most = max(1, int((inside + outside).max()))
        width = 1000 / BARS
        bars = [
            Bar(round(index * width, 1), round(width - 2, 1), 1000 * one / most, 1000 * other / most)
            for index, (one, other) in enumerate(zip(inside.tolist(), outside.tolist(), strict=True))
            if one or other
        ]
        dropped = sum(int(check.broken.sum()) for check in found if check.score == name)
        return Chart(name, self.axes[name], bars, bounds, int(measured.sum()), dropped)


def _bar_numbers(axis: Axis, values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """The bar of each value; -1 for what was not measured."""
    measured = np.isfinite(values)
    places = axis.places(np.where(measured, values, axis.low))
    return np.where(measured, np.minimum((places * BARS).astype(np.int64), BARS - 1), -1)


def _nearest(distance: Float[np.ndarray, " n"], among: Bool[np.ndarray, " n"]) -> list[int]:
    rows = np.flatnonzero(among)
    order = np.argsort(distance[rows], kind="stable")[:BORDER]
    found: list[int] = rows[order].tolist()
    return found


def read_filters(form: Mapping[str, Any], base: FilterConfig) -> FilterConfig:
    """The filters of a form: an empty field is no bound. Scores that the form does not name stay as they are.

    Raises `ConfigError` for what is no number or a minimum above its maximum.
    """
    bounds: dict[str, Any] = {name: _bounds(form, name) for name in SCORES if f"{name}.min" in form}
    kinds = tuple(kind for kind in CAMERA_WORDS if f"camera_motion.{kind}" in form)
    plain: dict[str, Any] = {"camera_motion": kinds, "near_duplicates": "near_duplicates" in form}
    return replace(base, **bounds, **plain)


def _bounds(form: Mapping[str, Any], name: str) -> Bounds:
    low, high = (_number(form, f"{name}.{end}") for end in ("min", "max"))
    lowest, highest = ((_number(form, f"{name}.{end}") or 0.0) / 100 for end in _FRACTIONS)
    try:
        return Bounds(min=low, max=high, drop_lowest=lowest, drop_highest=highest)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error


def _number(form: Mapping[str, Any], name: str) -> float | None:
    text = str(form.get(name, "")).strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{name}: {text!r} is no number")
    return value
