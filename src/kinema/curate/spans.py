"""Transitions to clips: the spans between them, long ones split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from kinema.curate.cuts import Transition


@dataclass(frozen=True, kw_only=True)
class SpanConfig:
    """A shot longer than `max_duration_s` is split into equal parts."""

    max_duration_s: float = 20.0

    def __post_init__(self) -> None:
        if self.max_duration_s <= 0:
            raise ValueError(f"max_duration_s must be positive, got {self.max_duration_s}")


@dataclass(frozen=True)
class Span:
    """Frames `start` to `end` (exclusive), and what bounds them: start, hard, fade, dissolve, length, end."""

    start: int
    end: int
    kind_start: str
    kind_end: str


def shots(transitions: Sequence[Transition], frames: int) -> list[Span]:
    """What lies between transitions; their extent belongs to no shot."""
    found: list[Span] = []
    start, kind = 0, "start"
    for cut in transitions:
        if cut.start_index > start:
            found.append(Span(start, cut.start_index, kind, cut.kind))
        start, kind = max(start, cut.end_index), cut.kind
    if frames > start:
        found.append(Span(start, frames, kind, "end"))
    return found


def split(span: Span, times_s: Sequence[float], config: SpanConfig) -> list[Span]:
    """The span in parts of at most `max_duration_s`, cut evenly in time.

    `times_s` holds when each frame begins, and one more entry: when the last one ends.
    """
    start_s, end_s = times_s[span.start], times_s[span.end]
    parts = ceil((end_s - start_s) / config.max_duration_s - 1e-6)
    if parts <= 1:
        return [span]
    wanted = [start_s + (end_s - start_s) * part / parts for part in range(1, parts)]
    inner = sorted({_nearest(times_s, time_s, span) for time_s in wanted} - {span.start, span.end})
    edges = [span.start, *inner, span.end]
    kinds = [span.kind_start, *["length"] * len(inner), span.kind_end]
    return [
        Span(edges[index], edges[index + 1], first, second)
        for index, (first, second) in enumerate(pairwise(kinds))
    ]


def _nearest(times_s: Sequence[float], time_s: float, span: Span) -> int:
    return min(range(span.start, span.end + 1), key=lambda index: abs(times_s[index] - time_s))
