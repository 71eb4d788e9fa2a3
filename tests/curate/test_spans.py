from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.curate.cuts import Transition
from kinema.curate.spans import Span, SpanConfig, shots, split


def test_extent_of_a_transition_belongs_to_no_shot() -> None:
    cuts = [
        Transition(start_index=10, end_index=10, kind="hard"),
        Transition(start_index=30, end_index=38, kind="dissolve"),
        Transition(start_index=90, end_index=100, kind="fade"),
    ]
    assert shots(cuts, 100) == [
        Span(0, 10, "start", "hard"),
        Span(10, 30, "hard", "dissolve"),
        Span(38, 90, "dissolve", "fade"),
    ]


def test_no_cut_is_one_shot_and_no_frame_is_none() -> None:
    assert shots([], 7) == [Span(0, 7, "start", "end")]
    assert shots([], 0) == []


def test_overlapping_transitions_leave_nothing_between_them() -> None:
    cuts = [
        Transition(start_index=5, end_index=20, kind="fade"),
        Transition(start_index=12, end_index=15, kind="dissolve"),
    ]
    assert shots(cuts, 30) == [Span(0, 5, "start", "fade"), Span(20, 30, "dissolve", "end")]


def test_long_shot_is_split_evenly_and_says_so() -> None:
    times = [index / 10 for index in range(101)]
    parts = split(Span(0, 100, "start", "hard"), times, SpanConfig(max_duration_s=4))
    assert [(part.start, part.end) for part in parts] == [(0, 33), (33, 67), (67, 100)]
    kinds = [(part.kind_start, part.kind_end) for part in parts]
    assert kinds == [("start", "length"), ("length", "length"), ("length", "hard")]


def test_exactly_the_longest_duration_is_not_split() -> None:
    times = [index / 10 for index in range(41)]
    assert len(split(Span(0, 40, "start", "end"), times, SpanConfig(max_duration_s=4))) == 1


@given(
    st.lists(st.floats(0.001, 3.0), min_size=1, max_size=60),
    st.floats(0.05, 10),
)
def test_parts_tile_the_shot_at_any_frame_rate(steps: list[float], longest: float) -> None:
    times = [0.0]
    for step in steps:
        times.append(times[-1] + step)
    parts = split(Span(0, len(steps), "start", "end"), times, SpanConfig(max_duration_s=longest))
    assert [parts[0].start, parts[-1].end] == [0, len(steps)]
    assert all(before.end == after.start for before, after in pairwise(parts))
    assert all(part.end > part.start for part in parts)


def test_refuses_a_duration_of_nothing() -> None:
    with pytest.raises(ValueError, match="max_duration_s must be positive"):
        SpanConfig(max_duration_s=0)
