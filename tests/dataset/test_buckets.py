from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinema.dataset.buckets import (
    BucketRule,
    ClipShape,
    Placed,
    Published,
    RuleTable,
    Timed,
    effective_fps,
    seconds_needed,
    source_group,
    timed_candidates,
)
from kinema.dataset.config import DataConfig
from kinema.manifest import read_clips

RULES = (
    BucketRule(resolution="64px", frames=8),
    BucketRule(resolution="64px", frames=16),
    BucketRule(resolution="64px", frames=1),
    BucketRule(resolution="96px", frames=8),
    BucketRule(resolution="96px", frames=16, keep_prob=0.0),
)
TABLE = RuleTable(RULES)
TWO_SECONDS = ClipShape(frames=48, height=96, width=96, duration_s=2.0, fps=24)


def names(found: tuple[Placed, ...]) -> list[tuple[str, int]]:
    return [(placed.rule.resolution, placed.rule.frames) for placed in found]


def test_clips_fall_to_fewer_frames_and_then_to_a_lower_resolution() -> None:
    videos, stills = timed_candidates(TWO_SECONDS, TABLE, Timed())
    assert names(videos) == [("96px", 8), ("64px", 16), ("64px", 8)]
    assert stills == ()


def test_images_only_take_single_frames() -> None:
    videos, stills = timed_candidates(ClipShape(frames=1, height=96, width=96), TABLE, Timed())
    assert names(videos) == [("64px", 1)]
    assert stills == ()


def test_videos_take_single_frames_when_asked() -> None:
    assert names(timed_candidates(TWO_SECONDS, TABLE, Timed(video_as_image=0.1))[1]) == [("64px", 1)]


def test_a_fast_source_needs_the_seconds_not_the_frames() -> None:
    fast = ClipShape(frames=120, height=64, width=64, duration_s=1.0, fps=120)
    assert names(timed_candidates(fast, TABLE, Timed(fps=8))[0]) == [("64px", 8)]
    assert names(timed_candidates(fast, TABLE, Timed(fps=16))[0]) == [("64px", 16), ("64px", 8)]


def test_a_slow_source_keeps_its_rate() -> None:
    slow = ClipShape(frames=12, height=64, width=64, duration_s=2.4, fps=5)
    assert effective_fps(slow, 8) == 5
    assert seconds_needed(slow, 8, 8) == pytest.approx(1.6)
    assert names(timed_candidates(slow, TABLE, Timed())[0]) == [("64px", 8)]


def test_order_is_by_area_then_length() -> None:
    order = [(rule.resolution, rule.frames) for rule in TABLE.ordered]
    assert order == [("96px", 16), ("96px", 8), ("64px", 16), ("64px", 8), ("64px", 1)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"resolution": "64"},
        {"frames": 0},
        {"keep_prob": 1.5},
        {"keep_prob": -0.1},
        {"batch_size": 0},
    ],
)
def test_rules_refuse_nonsense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BucketRule(**({"resolution": "64px", "frames": 8} | wrong))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Timed, {"fps": 0}),
        (Timed, {"video_as_image": 2}),
        (Timed, {"image_weight": -1}),
        (Timed, {"source_weights": {"*": -1}}),
        (Published, {"frame_interval": 0}),
        (DataConfig, {"buckets": ()}),
        (DataConfig, {"buckets": (RULES[0], RULES[0])}),
        (DataConfig, {"batch_size": 0}),
        (DataConfig, {"workers": -1}),
        (DataConfig, {"caption_weights": {"image": -1}}),
    ],
)
def test_configs_refuse_nonsense(kind: type, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


def test_clips_are_counted_for_a_pattern_else_for_their_folder(dataset: Path) -> None:
    clip = replace(read_clips(dataset)[0], source_path="/films/archive/a.mp4")
    weighed = Timed(source_weights={"*/screen/*": 0.5, "*/archive/*": 2})
    assert source_group(clip, weighed) == "*/archive/*"
    assert source_group(clip, Timed()) == "archive"
    assert source_group(clip, Published()) == "archive"
    assert source_group(replace(clip, source_path="a.mp4"), Timed()) == "."
    assert source_group(replace(clip, source_path="s3://bucket/films/a.mp4"), Timed()) == "films"
