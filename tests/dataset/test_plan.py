from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.dataset.buckets import BucketRule, ClipShape, Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.plan import LeftOut, _grouped, make_plan, why_left_out
from kinema.errors import DatasetError
from kinema.manifest import read_clips, write_clips

VIDEO = BucketRule(resolution="64px", frames=16, batch_size=4)
STILL = BucketRule(resolution="64px", frames=1, batch_size=2)


def test_counts_per_bucket(dataset: Path) -> None:
    plan = make_plan(dataset, DataConfig(buckets=(VIDEO, STILL)))
    assert (plan.kept, plan.usable, plan.left_out) == (4, 4, ())
    assert sum(row.clips for row in plan.rows) == 4
    assert sum(row.frames for row in plan.rows) == 3 * 16 + 1
    assert {row.bucket_frames: row.batches for row in plan.rows} == {16: 0.25, 1: 0.5}
    assert json.loads(json.dumps(plan.as_dict()))["kept"] == 4


def test_text_names_buckets_reasons_and_warnings(dataset: Path) -> None:
    text = make_plan(dataset, DataConfig(buckets=(VIDEO, replace(VIDEO, resolution="720p")))).as_text()
    assert "64px 16f 64x64" in text
    assert "left out: 1 x it is an image, and no bucket of its size has 1 frame (clip " in text
    assert "of photo.png)" in text
    assert "3 of 4 kept clips are used; 100% of an epoch is video" in text
    assert "warning: no clip fits 720p with frames = 16" in text


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (
            ClipShape(frames=36, height=64, width=64, duration_s=1.2, fps=30),
            "1.2 s is shorter than the 2.0 s that",
        ),
        (ClipShape(frames=20, height=64, width=64, duration_s=4, fps=5), None),
        (ClipShape(frames=10, height=64, width=64, duration_s=2, fps=5), "16 frames at 5 fps need"),
        (ClipShape(frames=100, height=40, width=40, duration_s=4, fps=25), "40x40 pixels are fewer than 80%"),
        (ClipShape(frames=48, height=64, width=64, duration_s=2, fps=24), None),
        (ClipShape(frames=1, height=64, width=64), "it is an image"),
    ],
)
def test_reasons_in_words(shape: ClipShape, reason: str | None) -> None:
    said = why_left_out(shape, DataConfig(buckets=(VIDEO,)))
    assert said is None if reason is None else reason in (said or "")


def test_the_mix_of_videos_and_images(dataset: Path) -> None:
    assert make_plan(dataset, DataConfig(buckets=(VIDEO, STILL))).video_share == 0.75
    without = make_plan(dataset, DataConfig(buckets=(VIDEO, STILL), bucketing=Timed(image_weight=0)))
    assert without.video_share == 1
    assert [item.reason for item in without.left_out] == ["its weight is 0"]


def test_the_published_minimum_in_words() -> None:
    config = DataConfig(buckets=(VIDEO,), bucketing=Published())
    shape = ClipShape(frames=48, height=64, width=64, duration_s=2, fps=24)
    assert "48 frames are fewer than the 49 that 16 frames" in (why_left_out(shape, config) or "")
    assert why_left_out(replace(shape, frames=49), config) is None


def test_short_videos_can_serve_as_images() -> None:
    shape = ClipShape(frames=5, height=64, width=64, duration_s=0.2, fps=25)
    assert why_left_out(shape, DataConfig(buckets=(VIDEO, STILL))) is not None
    lenient = DataConfig(buckets=(VIDEO, STILL), bucketing=Timed(video_as_image=0.1))
    assert why_left_out(shape, lenient) is None


def test_nothing_usable_is_an_error_that_names_the_mend(dataset: Path) -> None:
    long = DataConfig(buckets=(replace(VIDEO, frames=64),))
    with pytest.raises(DatasetError, match=r"shorter than the 8\.0 s .* fewer frames"):
        make_plan(dataset, long)
    dropped = [replace(clip, kept=False, drop_reasons=("too short",)) for clip in read_clips(dataset)]
    write_clips(dataset, "0", dropped)
    with pytest.raises(DatasetError, match=r"4 x too short.*filters"):
        make_plan(dataset, long)


def test_warnings(dataset: Path) -> None:
    write_clips(dataset, "0", [replace(clip, captions=()) for clip in read_clips(dataset)])
    plan = make_plan(dataset, DataConfig(buckets=(STILL,)))
    assert "no video is trained on, only single frames" in plan.warnings
    assert any("no caption" in warning for warning in plan.warnings)
    singles = replace(STILL, batch_size=1)
    published = DataConfig(buckets=(VIDEO, singles), bucketing=Published(frame_interval=2))
    assert any("never fill a batch of 4" in warning for warning in make_plan(dataset, published).warnings)
    with pytest.raises(DatasetError, match="batch sizes"):
        make_plan(dataset, replace(published, buckets=(VIDEO,)))


def test_reasons_are_grouped() -> None:
    left_out = [LeftOut(clip_id=str(n), source_path=f"{n}.mp4", reason=f"reason {n // 2}") for n in range(25)]
    lines = _grouped(left_out)
    assert len(lines) == 9
    assert lines[0] == "left out: 2 x reason 0 (clip 0 of 0.mp4)"
    assert lines[-1] == "left out: 9 more"


def test_version_follows_the_content(dataset: Path) -> None:
    before = make_plan(dataset, DataConfig()).dataset_version
    write_clips(dataset, "0", [replace(clip, captions=()) for clip in read_clips(dataset)])
    assert make_plan(dataset, DataConfig()).dataset_version != before
