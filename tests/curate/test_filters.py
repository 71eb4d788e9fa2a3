from __future__ import annotations

from dataclasses import replace

import pytest

from kinema.curate.filters import FilterConfig, drop_reasons, filtered
from kinema.manifest import Clip

CLIP = Clip(
    clip_id="a",
    source_id="s",
    source_path="/x.mp4",
    start_frame=0,
    end_frame=50,
    start_s=0.0,
    end_s=2.0,
    cut_kind_start="start",
    cut_kind_end="end",
    frames=50,
    fps=25.0,
    width=320,
    height=180,
    aspect_ratio=180 / 320,
    duration_s=2.0,
    motion_score=1.0,
)


def test_each_broken_bound_is_a_reason() -> None:
    bad = replace(CLIP, duration_s=0.5, width=60, motion_score=9.0)
    config = FilterConfig(max_motion=5.0)
    assert drop_reasons(bad, config) == ("duration_s < 1", "side < 64", "motion_score > 5.0")
    assert drop_reasons(replace(CLIP, motion_score=0.01), config) == ("motion_score < 0.05",)
    assert drop_reasons(CLIP, config) == ()


def test_filtering_again_starts_from_nothing() -> None:
    dropped = filtered(CLIP, FilterConfig(min_duration_s=3))
    assert (dropped.kept, dropped.drop_reasons) == (False, ("duration_s < 3",))
    assert filtered(dropped, FilterConfig()) == CLIP


def test_what_was_not_measured_drops_nothing() -> None:
    assert filtered(replace(CLIP, motion_score=None), FilterConfig(max_motion=1)).kept


def test_an_image_has_no_duration_to_fall_short_of() -> None:
    image = replace(CLIP, frames=1, fps=0.0, duration_s=0.0, end_s=0.0, motion_score=None)
    assert filtered(image, FilterConfig(min_duration_s=5)).kept


def test_refuses_bounds_that_keep_nothing() -> None:
    with pytest.raises(ValueError, match="min_motion must be below max_motion"):
        FilterConfig(min_motion=2, max_motion=1)
