from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.dataset.buckets import BucketRule, Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.loader import Batch, draw_caption, iterate_batches
from kinema.errors import DatasetError
from kinema.manifest import Caption, read_clips, write_clips
from kinema.shapes import Bucket
from kinema.video.reader import decode_count

CONFIG = DataConfig(
    buckets=(
        BucketRule(resolution="64px", frames=8, batch_size=2),
        BucketRule(resolution="64px", frames=1, batch_size=2),
    )
)


def take(dataset: Path, config: DataConfig, count: int, **place: int) -> list[Batch]:
    batches = iterate_batches(dataset, config, **place)
    found = list(islice(batches, count))
    batches.close()
    return found


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.video, other.video)
        assert torch.equal(one.fps, other.fps)
        assert one.scores.keys() == other.scores.keys()
        for name, scores in one.scores.items():
            assert torch.equal(scores.nan_to_num(-1), other.scores[name].nan_to_num(-1))
        assert replace(one, video=0, fps=0, scores={}) == replace(other, video=0, fps=0, scores={})


def test_a_batch_holds_what_its_bucket_says(dataset: Path) -> None:
    for batch in take(dataset, CONFIG, 8):
        size = batch.bucket.size
        assert batch.video.shape == (2, 3, batch.bucket.frames, size.height, size.width)
        assert batch.video.dtype == torch.float32
        assert -1 <= batch.video.min() <= batch.video.max() <= 1
        assert len(batch.captions) == len(batch.clip_ids) == len(batch.seeds) == 2
        assert set(batch.fps.tolist()) == {120.0 if batch.bucket.frames == 1 else 8.0}


def test_frames_are_spaced_by_the_target_rate(dataset: Path) -> None:
    """The footage grows by 4 greys a frame at 24 fps, so frames at 8 fps are 12 greys apart."""
    for batch in take(dataset, CONFIG, 8):
        if batch.bucket.frames > 1:
            greys = (batch.video.mean(dim=(1, 3, 4)) + 1) * 127.5
            assert (greys.diff(dim=1) - 12).abs().max() < 3


def test_resume_is_the_same_as_going_on(dataset: Path) -> None:
    assert_equal(take(dataset, CONFIG, 3, start_step=5), take(dataset, CONFIG, 8)[5:])


@pytest.mark.parametrize("change", [{"cache_mb": 0}, {"workers": 0}, {"workers": 5, "prefetch": 9}])
def test_cache_and_workers_change_nothing(dataset: Path, change: dict[str, int]) -> None:
    assert_equal(
        take(dataset, replace(CONFIG, flip=True, **change), 10), take(dataset, replace(CONFIG, flip=True), 10)
    )


def test_ranks_share_the_batch_of_one(dataset: Path) -> None:
    alone = take(dataset, CONFIG, 6)
    ranks = [take(dataset, CONFIG, 6, rank=rank, world=2) for rank in range(2)]
    for whole, first, second in zip(alone, *ranks, strict=True):
        assert torch.equal(whole.video, torch.cat([first.video, second.video]))
        assert whole.seeds == first.seeds + second.seeds


def test_a_small_dataset_is_decoded_once(dataset: Path) -> None:
    take(dataset, CONFIG, 10)
    before = decode_count.opened
    take(dataset, CONFIG, 30)
    assert decode_count.opened - before == 4
    before = decode_count.opened
    take(dataset, replace(CONFIG, cache_mb=0), 30)
    assert decode_count.opened - before >= 60


def test_windows_differ_between_steps(dataset: Path) -> None:
    greys = {
        float(batch.video[0, 0, 0].mean()) for batch in take(dataset, CONFIG, 30) if batch.bucket.frames > 1
    }
    assert len(greys) > 8


def test_flip_mirrors_about_half(tmp_path: Path, dataset: Path) -> None:
    config = replace(CONFIG, flip=True, buckets=CONFIG.buckets[1:], bucketing=Timed(video_as_image=1.0))
    plain = take(dataset, replace(config, flip=False), 20)
    flipped = take(dataset, config, 20)
    assert {batch.captions[0] for batch in plain} == {batch.captions[0] for batch in flipped}
    for one, other in zip(plain, flipped, strict=True):
        for still, maybe in zip(one.video, other.video, strict=True):
            assert torch.equal(still, maybe) or torch.equal(still.flip(-1), maybe)


def test_published_windows_and_rates(dataset: Path) -> None:
    bucketing = Published(frame_interval=3, drop_last=False)
    for batch in take(dataset, replace(CONFIG, bucketing=bucketing), 6):
        assert set(batch.fps.tolist()) <= {24.0, 120.0}
        if batch.bucket.frames > 1:
            greys = (batch.video.mean(dim=(1, 3, 4)) + 1) * 127.5
            span = greys[:, -1] - greys[:, 0]
            assert (span - 4 * 23).abs().max() < 3


def test_a_clip_that_cannot_be_read_is_named(dataset: Path) -> None:
    clips = read_clips(dataset)
    broken = next(clip for clip in clips if clip.frames > 1)
    Path(broken.source_path).write_text("not a video")
    with pytest.raises(DatasetError, match=broken.clip_id):
        take(dataset, CONFIG, 10)


def test_a_dataset_without_kept_clips_is_refused(dataset: Path) -> None:
    write_clips(dataset, "0", [replace(clip, kept=False) for clip in read_clips(dataset)])
    with pytest.raises(DatasetError, match="no kept clip"):
        iterate_batches(dataset, CONFIG)


def test_captions_follow_their_weights(dataset: Path) -> None:
    clip = replace(
        read_clips(dataset)[0],
        captions=(
            Caption(text="i", kind="image"),
            Caption(text="v", kind="video"),
            Caption(text="m1", kind="merged"),
            Caption(text="m2", kind="merged"),
        ),
    )
    generator = np.random.default_rng(0)
    drawn = [draw_caption(clip, CONFIG.caption_weights, generator) for _ in range(4000)]
    for text, share in {"i": 0.5, "v": 0.25, "m1": 0.125, "m2": 0.125}.items():
        assert drawn.count(text) / 4000 == pytest.approx(share, abs=0.03)
    assert draw_caption(replace(clip, captions=()), {}, generator) == ""


def test_batches_move_to_a_device(dataset: Path) -> None:
    batch = take(dataset, CONFIG, 1)[0].to("cpu")
    assert isinstance(batch.bucket, Bucket)
    assert batch.video.device.type == "cpu"
