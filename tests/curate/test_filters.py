from __future__ import annotations

from dataclasses import replace

import pytest

from kinema.curate.filters import Bounds, FilterConfig, checks, filtered, reasons, scores_of
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
OPEN = FilterConfig(
    duration_s=Bounds(), side=Bounds(), motion_score=Bounds(), text_area=Bounds(), black_frames=Bounds()
)


def scored(**scores: list[float | None]) -> list[Clip]:
    count = len(next(iter(scores.values())))
    return [
        replace(CLIP, clip_id=str(index), **{name: values[index] for name, values in scores.items()})
        for index in range(count)
    ]


def why(clip: Clip, config: FilterConfig) -> tuple[str, ...]:
    return filtered([clip], config)[0].drop_reasons


def test_each_broken_bound_is_a_reason() -> None:
    bad = replace(CLIP, duration_s=0.5, width=60, motion_score=9.0, text_area=0.08)
    config = FilterConfig(motion_score=Bounds(min=0.05, max=5))
    assert why(bad, config) == ("duration_s < 1", "side < 64", "motion_score > 5", "text_area > 0.07")
    assert why(replace(CLIP, motion_score=0.01), config) == ("motion_score < 0.05",)
    assert why(CLIP, config) == ()


def test_a_score_at_the_bound_is_inside() -> None:
    assert filtered([CLIP], replace(OPEN, motion_score=Bounds(min=1.0, max=1.0)))[0].kept


def test_filtering_again_starts_from_nothing() -> None:
    (dropped,) = filtered([CLIP], FilterConfig(duration_s=Bounds(min=3)))
    assert (dropped.kept, dropped.drop_reasons) == (False, ("duration_s < 3",))
    assert filtered([dropped], FilterConfig()) == [CLIP]


def test_what_was_not_measured_drops_nothing() -> None:
    config = FilterConfig(motion_score=Bounds(max=0.5, drop_lowest=0.5))
    assert filtered([replace(CLIP, motion_score=None)], config)[0].kept


def test_an_image_has_no_duration_to_fall_short_of() -> None:
    image = replace(CLIP, frames=1, fps=0.0, duration_s=0.0, end_s=0.0, motion_score=None)
    assert filtered([image], FilterConfig(duration_s=Bounds(min=5), fps=Bounds(min=10)))[0].kept


@pytest.mark.parametrize(("fraction", "fallen"), [(0.125, 1), (0.25, 2), (0.5, 4)])
def test_the_lowest_fraction_falls(fraction: float, fallen: int) -> None:
    clips = scored(motion_score=[5.0, 3.0, 8.0, 1.0, 2.0, 7.0, 6.0, 4.0])
    found = filtered(clips, replace(OPEN, motion_score=Bounds(drop_lowest=fraction)))
    assert {clip.motion_score for clip in found if not clip.kept} == set(range(1, fallen + 1))
    assert found[3].drop_reasons == (f"motion_score in the lowest {100 * fraction:g} %",)


def test_the_highest_fraction_falls_and_ties_share_one_fate() -> None:
    clips = scored(text_area=[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.1])
    found = filtered(clips, replace(OPEN, text_area=Bounds(drop_highest=0.25)))
    assert [clip.kept for clip in found] == [True] * 6 + [False] * 2
    found = filtered(clips, replace(OPEN, text_area=Bounds(drop_highest=0.5)))
    assert [clip.kept for clip in found] == [True] * 6 + [False] * 2  # half would cut through the zeros


def test_a_fraction_is_of_the_measured_clips_whatever_else_is_wrong_with_them() -> None:
    clips = scored(motion_score=[1.0, 2.0, 3.0, 4.0, None, None, None, None])
    clips[0] = replace(clips[0], duration_s=0.1)
    found = filtered(clips, replace(OPEN, duration_s=Bounds(min=1), motion_score=Bounds(drop_lowest=0.25)))
    assert [clip.kept for clip in found] == [False] + [True] * 7
    assert len(found[0].drop_reasons) == 2


def test_near_duplicates_and_camera_motion() -> None:
    clips = [replace(CLIP, near_duplicate_of="b"), replace(CLIP, camera_motion="handheld")]
    found = filtered(clips, FilterConfig(camera_motion=("handheld",)))
    assert [clip.drop_reasons for clip in found] == [("near duplicate",), ("camera_motion is handheld",)]
    assert all(clip.kept for clip in filtered(clips, FilterConfig(near_duplicates=False)))


def test_a_check_says_where_it_cuts() -> None:
    clips = scored(motion_score=[1.0, 2.0, 3.0, 4.0])
    (check,) = checks(
        scores_of(clips), replace(OPEN, near_duplicates=False, motion_score=Bounds(drop_lowest=0.5))
    )
    assert (check.threshold, check.below, check.broken.tolist()) == (3.0, True, [True, True, False, False])
    assert reasons([check], 4)[2] == ()


def test_part_of_the_clips_are_judged_without_fractions() -> None:
    config = FilterConfig(motion_score=Bounds(min=0.5, drop_lowest=0.5)).without_fractions()
    assert config.motion_score == Bounds(min=0.5)


def test_no_clips_are_no_trouble() -> None:
    assert filtered([], FilterConfig(motion_score=Bounds(drop_lowest=0.5))) == []


def test_refuses_bounds_that_keep_nothing() -> None:
    with pytest.raises(ValueError, match="min must not be above max, got 2 and 1"):
        Bounds(min=2, max=1)
    with pytest.raises(ValueError, match="together below 1"):
        Bounds(drop_lowest=0.5, drop_highest=0.5)
    with pytest.raises(ValueError, match="names a kind twice"):
        FilterConfig(camera_motion=("static", "static"))
