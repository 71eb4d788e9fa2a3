"""Charts as inline SVG text: nothing to load, sharp at any size, coloured by the page's style."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Float

_WIDTH, _HEIGHT = 430, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 18, 22, 22
_BARS = 32


@dataclass(frozen=True)
class Line:
    """A vertical line over a histogram: where a filter cuts."""

    value: float
    label: str


def histogram(title: str, kept: Sequence[float], dropped: Sequence[float], lines: Sequence[Line] = ()) -> str:
    """Bars of kept values with the dropped ones on top. The axis is logarithmic where values span decades."""
    values = [*kept, *dropped]
    if not values:
        return ""
    low, high = _span([*values, *(line.value for line in lines if math.isfinite(line.value))])
    scale = _Scale(low, high, logarithmic=_spans_decades(values) and low > 0)
    counts = _counted(kept, scale), _counted(dropped, scale)
    most = max(one + other for one, other in zip(*counts, strict=True))
    width = (_WIDTH - _LEFT - _RIGHT) / _BARS
    bars = "".join(
        _bar(_LEFT + index * width, width, one / most, other / most)
        for index, (one, other) in enumerate(zip(*counts, strict=True))
        if one or other
    )
    marks = "".join(_threshold(scale, line, row) for row, line in enumerate(lines))
    axis = "".join(
        f'<text x="{scale.x(tick):.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{number(tick)}</text>'
        for tick in scale.ticks()
    )
    name = html.escape(title)
    return (
        f'<figure class="chart"><figcaption>{name}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Histogram of {name}">'
        f'<text x="{_LEFT - 6}" y="{_TOP + 8}" text-anchor="end">{most}</text>'
        f'<path d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" class="rule"/>'
        f"{bars}{axis}{marks}</svg></figure>"
    )


def shares(rows: Sequence[tuple[str, float, str]]) -> str:
    """Horizontal bars: (label, share from 0 to 1, words beside it)."""
    items = "".join(
        f'<div class="share"><span>{html.escape(label)}</span>'
        f'<i><u style="width:{100 * share:.2f}%"></u></i><b>{html.escape(words)}</b></div>'
        for label, share, words in rows
    )
    return f'<div class="shares">{items}</div>'


@dataclass(frozen=True)
class Range:
    """A value with the ends of its interval."""

    label: str
    value: float
    low: float
    high: float


def ranges(title: str, rows: Sequence[Range]) -> str:
    """A dot and its interval a row, on one axis."""
    low, high = _span([bound for row in rows for bound in (row.low, row.high, row.value)])
    scale, left, height = _Scale(low, high, logarithmic=False), 300, 26
    tall = height * len(rows) + 30

    def x(value: float) -> float:
        return left + (860 - left - 20) * float(scale.shares(np.array([value]))[0])

    marks = "".join(
        f'<text x="{left - 14}" y="{height * place + 20}" text-anchor="end">{html.escape(row.label)}</text>'
        f'<line x1="{x(row.low):.1f}" x2="{x(row.high):.1f}" y1="{height * place + 16}" '
        f'y2="{height * place + 16}" class="curve"/>'
        f'<circle cx="{x(row.value):.1f}" cy="{height * place + 16}" r="5" class="bar"/>'
        for place, row in enumerate(rows)
    )
    axis = "".join(
        f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="0" y2="{tall - 24}" class="rule"/>'
        f'<text x="{x(tick):.1f}" y="{tall - 6}" text-anchor="middle">{number(tick)}</text>'
        for tick in scale.ticks()
    )
    name = html.escape(title)
    return (
        f'<figure class="chart"><figcaption>{name}</figcaption>'
        f'<svg viewBox="0 0 860 {tall}" role="img" aria-label="{name}">{axis}{marks}</svg></figure>'
    )


def loss_curve(losses: Sequence[tuple[int, float]], width: int = 860, height: int = 220) -> str:
    """Inline SVG of (step, loss), averaged over 1/60 of the run, on a logarithmic loss axis."""
    points = _averaged(losses, groups=60)
    if len(points) < 2:
        return "<p>Too few steps to draw a curve.</p>"
    steps = [step for step, _ in points]
    logs = [math.log10(max(loss, 1e-12)) for _, loss in points]
    low, high = min(logs), max(*logs, min(logs) + 1e-9)
    left, bottom = 64, 30

    def x(step: float) -> float:
        return left + (width - left - 10) * (step - steps[0]) / (steps[-1] - steps[0])

    def y(log: float) -> float:
        return 10 + (height - bottom - 10) * (high - log) / (high - low)

    line = " ".join(f"{x(step):.1f},{y(log):.1f}" for step, log in zip(steps, logs, strict=True))
    marks = "".join(
        f'<line x1="{left}" x2="{width - 10}" y1="{y(log):.1f}" y2="{y(log):.1f}" class="rule"/>'
        f'<text x="{left - 8}" y="{y(log) + 4:.1f}" text-anchor="end">{10**log:.3g}</text>'
        for log in (low, (low + high) / 2, high)
    )
    ticks = "".join(
        f'<text x="{x(step):.1f}" y="{height - 8}" text-anchor="{anchor}">{step}</text>'
        for step, anchor in ((steps[0], "start"), (steps[len(steps) // 2], "middle"), (steps[-1], "end"))
    )
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Training loss over steps">'
        f'{marks}{ticks}<polyline points="{line}" class="curve"/></svg>'
    )


def number(value: float) -> str:
    """Short: at most three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.2g}"


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    logarithmic: bool

    def shares(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Places on the axis from 0 to 1."""
        if self.logarithmic:
            values, low, high = np.log(np.maximum(values, self.low)), math.log(self.low), math.log(self.high)
        else:
            low, high = self.low, self.high
        return np.asarray((values - low) / (high - low))

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * float(self.shares(np.array([value]))[0])

    def ticks(self) -> list[float]:
        if self.logarithmic:
            powers = range(math.ceil(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
            tens = [10.0**power for power in powers]
            return (
                tens if len(tens) > 2 else sorted({*tens, *(3 * ten for ten in tens if 3 * ten < self.high)})
            )
        step = _round_step((self.high - self.low) / 5)
        first = math.ceil(self.low / step - 1e-9)
        return [step * index for index in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    ten = 10.0 ** math.floor(math.log10(rough))
    return next(ten * factor for factor in (1, 2, 2.5, 5, 10) if ten * factor >= rough * (1 - 1e-9))


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high > low:
        return low, high
    return (low - 0.5, high + 0.5) if low == 0 else (low - 0.5 * abs(low), high + 0.5 * abs(high))


def _spans_decades(values: Sequence[float]) -> bool:
    """Most of a linear axis would be empty."""
    ordered = sorted(values)
    tenth, most = ordered[len(ordered) // 10], ordered[-1]
    return ordered[0] > 0 and most / tenth > 20


def _counted(values: Sequence[float], scale: _Scale) -> list[int]:
    if not len(values):
        return [0] * _BARS
    places = np.clip(scale.shares(np.asarray(values, np.float64)) * _BARS, 0, _BARS - 1).astype(int)
    counts: list[int] = np.bincount(places, minlength=_BARS).tolist()
    return counts


def _bar(x: float, width: float, kept: float, dropped: float) -> str:
    room, floor = _HEIGHT - _TOP - _BOTTOM, _HEIGHT - _BOTTOM
    parts, below = [], 0.0
    for share, kind in ((kept, "bar"), (dropped, "bar out")):
        if share:
            tall = max(share * room, 1.5)
            parts.append(
                f'<rect x="{x + 0.5:.1f}" y="{floor - below - tall:.1f}" width="{width - 1:.1f}" '
                f'height="{tall:.1f}" class="{kind}"/>'
            )
            below += tall
    return "".join(parts)


def _threshold(scale: _Scale, line: Line, row: int) -> str:
    """Labels of several lines stand below one another."""
    x = scale.x(line.value)
    anchor = "start" if x < _WIDTH / 2 else "end"
    shift = 5 if anchor == "start" else -5
    return (
        f'<line x1="{x:.1f}" x2="{x:.1f}" y1="4" y2="{_HEIGHT - _BOTTOM}" class="threshold"/>'
        f'<text x="{x + shift:.1f}" y="{13 + 13 * row}" text-anchor="{anchor}" class="threshold">'
        f"{html.escape(line.label)}</text>"
    )


def _averaged(losses: Sequence[tuple[int, float]], groups: int) -> list[tuple[int, float]]:
    size = max(1, len(losses) // groups)
    chunks = [losses[start:stop] for start, stop in pairwise([*range(0, len(losses), size), len(losses)])]
    return [(chunk[-1][0], sum(loss for _, loss in chunk) / len(chunk)) for chunk in chunks]
