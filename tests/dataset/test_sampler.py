from __future__ import annotations

from collections import Counter

import pytest

from kinema.dataset.buckets import BucketRule, Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.presets import STAGE1
from kinema.dataset.sampler import build_schedule
from kinema.errors import ConfigError, DatasetError
from kinema.manifest import Clip, clip_id

BUCKETS = (
    BucketRule(resolution="96px", frames=16, keep_prob=0.5, batch_size=4),
    BucketRule(resolution="64px", frames=16, keep_prob=0.7, batch_size=8),
    BucketRule(resolution="64px", frames=8, batch_size=4),
    BucketRule(resolution="64px", frames=1, batch_size=12),
)


def video(name: str, *, frames: int = 48, height: int = 64, width: int = 64) -> Clip:
    fps = 24.0 if frames > 1 else 0.0
    duration_s = frames / fps if fps else 0.0
    return Clip(
        clip_id=clip_id(name, 0, frames),
        source_id=name,
        source_path=f"{name}.mp4",
        start_frame=0,
        end_frame=frames,
        start_s=0.0,
        end_s=duration_s,
        cut_kind_start="start",
        cut_kind_end="end",
        frames=frames,
        fps=fps,
        width=width,
        height=height,
        aspect_ratio=height / width,
        duration_s=duration_s,
    )


@pytest.fixture
def clips():
    shapes = [(64, 64), (96, 96), (64, 128), (120, 60)]
    videos = [
        video(
            f"video{number}",
            frames=24 + 5 * number,
            height=shapes[number % 4][0],
            width=shapes[number % 4][1],
        )
        for number in range(37)
    ]
    return videos + [video(f"photo{number}", frames=1) for number in range(11)]


def keys(batch):
    return [(sample.clip.clip_id, sample.seed) for sample in batch.samples]


def test_a_batch_needs_no_history(clips) -> None:
    config = DataConfig(buckets=BUCKETS)
    walked = build_schedule(clips, config)
    history = [walked.batch(step) for step in range(60)]
    for step in (59, 7, 0, 33):
        assert build_schedule(clips, config).batch(step) == history[step]


def test_the_order_of_the_manifest_does_not_matter(clips) -> None:
    config = DataConfig(buckets=BUCKETS)
    forwards, backwards = build_schedule(clips, config), build_schedule(clips[::-1], config)
    assert [forwards.batch(step) for step in range(40)] == [backwards.batch(step) for step in range(40)]


def test_every_world_size_sees_the_same_samples(clips) -> None:
    schedule = build_schedule(clips, DataConfig(buckets=BUCKETS))
    for step in range(40):
        alone = keys(schedule.batch(step))
        for world in (2, 4):
            ranks = [schedule.batch(step, rank, world) for rank in range(world)]
            assert [key for batch in ranks for key in keys(batch)] == alone


def test_ranks_do_equal_work(clips) -> None:
    schedule = build_schedule(clips, DataConfig(buckets=BUCKETS))
    for step in range(40):
        ranks = [schedule.batch(step, rank, 4) for rank in range(4)]
        assert len({(batch.bucket, len(batch.samples)) for batch in ranks}) == 1


def test_another_seed_gives_another_order(clips) -> None:
    first, second = (build_schedule(clips, DataConfig(buckets=BUCKETS, seed=seed)) for seed in (0, 1))
    assert [keys(first.batch(step)) for step in range(5)] != [keys(second.batch(step)) for step in range(5)]


def test_clips_are_in_the_bucket_they_were_assigned(clips) -> None:
    schedule = build_schedule(clips, DataConfig(buckets=BUCKETS))
    for step in range(30):
        batch = schedule.batch(step)
        members = {
            clip.clip_id for epoch in range(batch.epoch + 1) for clip in schedule.members(epoch)[batch.bucket]
        }
        assert {sample.clip.clip_id for sample in batch.samples} <= members


@pytest.mark.parametrize("image_weight", [1.0, 0.3, 2.5])
def test_nothing_is_dropped_between_epochs(clips, image_weight: float) -> None:
    """Every clip trains as often as it was offered, but for what waits in unfilled batches."""
    schedule = build_schedule(clips, DataConfig(buckets=BUCKETS, bucketing=Timed(image_weight=image_weight)))
    epochs = 40
    offered = Counter(
        (bucket, clip.clip_id)
        for epoch in range(epochs)
        for bucket, members in schedule.members(epoch).items()
        for clip in members
    )
    seen: Counter = Counter()
    step = 0
    while (batch := schedule.batch(step)).epoch < epochs:
        seen.update((batch.bucket, sample.clip.clip_id) for sample in batch.samples)
        step += 1
    assert seen <= offered
    waiting = Counter()
    for (bucket, _), missing in (offered - seen).items():
        waiting[bucket] += missing
    sizes = {(rule.resolution, rule.frames): rule.batch_size for rule in BUCKETS}
    assert waiting
    assert all(count < sizes[bucket.resolution, bucket.frames] for bucket, count in waiting.items())


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("size", [1, 2, 5, 12])
@pytest.mark.parametrize("step", [0, 1, 50, 201])
def test_few_clips_fill_batches_evenly(count: int, size: int, step: int) -> None:
    rule = BucketRule(resolution="64px", frames=8, batch_size=size)
    clips = [video(f"video{number}") for number in range(count)]
    batch = build_schedule(clips, DataConfig(buckets=(rule,))).batch(step)
    seen = Counter(sample.clip.clip_id for sample in batch.samples)
    assert seen.total() == size
    assert max(seen.values()) <= -(-size // count) + 1
    assert len({sample.seed for sample in batch.samples}) == size


def test_thousands_of_steps_on_three_clips_are_found_at_once() -> None:
    clips = [video(f"video{number}") for number in range(3)]
    schedule = build_schedule(clips, DataConfig(batch_size=3))
    seen: Counter[str] = Counter()
    for step in range(1996, 2000):
        seen.update(sample.clip.clip_id for sample in schedule.batch(step).samples)
    assert set(seen.values()) == {4}


def test_a_batch_that_does_not_divide_is_refused_at_once(clips) -> None:
    schedule = build_schedule(clips, DataConfig(buckets=BUCKETS))
    with pytest.raises(ConfigError, match="batch_multiplier"):
        schedule.batch(0, 0, 3)
    tripled = build_schedule(clips, DataConfig(buckets=BUCKETS, batch_multiplier=3))
    assert len(tripled.batch(0, 0, 3).samples) in {4, 8, 12}


@pytest.mark.parametrize(("step", "rank", "world"), [(-1, 0, 1), (0, 2, 2), (0, -1, 1)])
def test_impossible_places_are_refused(clips, step: int, rank: int, world: int) -> None:
    with pytest.raises(ValueError, match="rank"):
        build_schedule(clips, DataConfig()).batch(step, rank, world)


def test_no_fitting_clip_is_an_error() -> None:
    for bucketing in (Timed(), Published()):
        config = DataConfig(buckets=(BucketRule(resolution="1024", frames=16),), bucketing=bucketing)
        with pytest.raises(DatasetError):
            build_schedule([video("small")], config).batch(0)


def test_images_stay_in_buckets_of_one_frame(clips) -> None:
    members = build_schedule(clips, DataConfig(buckets=BUCKETS)).members(0)
    for bucket, found in members.items():
        assert all((clip.frames == 1) == (bucket.frames == 1) for clip in found)


def test_videos_can_serve_as_images(clips) -> None:
    config = DataConfig(buckets=BUCKETS, bucketing=Timed(video_as_image=0.5))
    members = build_schedule(clips, config).members(0)
    stills = [clip for bucket, found in members.items() if bucket.frames == 1 for clip in found]
    videos = [clip for bucket, found in members.items() if bucket.frames > 1 for clip in found]
    assert any(clip.frames > 1 for clip in stills)
    assert len(stills) + len(videos) == len(clips)
    assert videos


def test_weights_offer_clips_more_or_less_often(clips) -> None:
    weighted = Timed(image_weight=1.5, source_weights={"video1*": 2, "video2*": 0.25, "video3.mp4": 0})
    schedule = build_schedule(clips, DataConfig(bucketing=weighted))
    offered = Counter(
        clip.source_path
        for epoch in range(400)
        for members in schedule.members(epoch).values()
        for clip in members
    )
    assert offered["video0.mp4"] == 400
    assert offered["video1.mp4"] == offered["video12.mp4"] == 800
    assert offered["video20.mp4"] == pytest.approx(100, abs=30)
    assert offered["photo1.mp4"] == pytest.approx(600, abs=40)
    assert "video3.mp4" not in offered
    assert len({schedule.batch(step).epoch for step in range(50)}) > 1


def test_weights_of_nothing_are_an_error(clips) -> None:
    with pytest.raises(DatasetError):
        build_schedule(clips, DataConfig(bucketing=Timed(source_weights={"*": 0})))


def test_keep_probabilities_are_realised() -> None:
    clips = [video(f"video{number}", height=96, width=96) for number in range(2000)]
    members = build_schedule(clips, DataConfig(buckets=BUCKETS)).members(3)
    shares = {(b.resolution, b.frames): len(found) / 2000 for b, found in members.items()}
    assert shares["96px", 16] == pytest.approx(0.5, abs=0.04)
    assert shares["64px", 16] == pytest.approx(0.35, abs=0.04)
    assert shares["64px", 8] == pytest.approx(0.15, abs=0.03)


def test_published_schedule_runs_on_from_any_step() -> None:
    clips = [video(f"video{number}", frames=100 + number, height=240, width=426) for number in range(60)]
    config = DataConfig(buckets=STAGE1, bucketing=Published())
    walked = build_schedule(clips, config)
    history = [walked.batch(step, 1, 2) for step in range(40)]
    assert history[-1].epoch > 0
    assert build_schedule(clips, config).batch(39, 1, 2) == history[39]


def test_published_schedule_can_fill_up_the_last_batch() -> None:
    clips = [video(f"video{number}", frames=100, height=144, width=256) for number in range(2)]
    rule = BucketRule(resolution="144p", frames=16, batch_size=5)
    config = DataConfig(buckets=(rule,), bucketing=Published(drop_last=False))
    assert len(build_schedule(clips, config).batch(0).samples) == 5
    with pytest.raises(DatasetError, match="filled no batch"):
        build_schedule(clips, DataConfig(buckets=(rule,), bucketing=Published())).batch(0)
