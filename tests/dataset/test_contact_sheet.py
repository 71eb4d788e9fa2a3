from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.contact_sheet import draw_sheet, first_samples
from kinema.dataset.loader import iterate_batches
from kinema.manifest import read_clips, write_clips
from kinema.video.transforms import to_video

CONFIG = DataConfig(
    buckets=(BucketRule(resolution="32px", frames=4), BucketRule(resolution="32px", frames=1)),
    bucketing=Timed(fps=6.0, video_as_image=0.5),
    batch_size=2,
    flip=True,
)


def test_the_sheet_has_the_frames_of_the_batches(squares: Path) -> None:
    shown = first_samples(squares, CONFIG, steps=50)
    assert {one.bucket.frames for one in shown} == {1, 4}
    batches = iterate_batches(squares, replace(CONFIG, workers=0))
    seen = {batch.step: batch for batch, _ in zip(batches, range(50), strict=False)}
    assert len({(one.bucket, one.sample.clip.clip_id) for one in shown}) == len(shown)
    for one in shown:
        batch = seen[one.batch.step]
        place = batch.seeds.index(one.sample.seed)
        assert one.item is not None
        assert one.item.frames is not None
        assert (to_video(one.item.frames) == batch.video[place]).all()
        assert one.item.choice.caption == batch.captions[place]


def test_the_picture_has_every_frame_where_it_is_drawn(squares: Path) -> None:
    [one, *_] = first_samples(squares, replace(CONFIG, flip=False), steps=50)
    sheet = draw_sheet("squares", [one])
    assert one.item is not None
    assert one.item.frames is not None
    side = one.item.frames.shape[1]
    scale = 3  # the largest whole number at which eight frames of 32 fit in a row
    frame = one.item.frames[0].repeat(scale, axis=0).repeat(scale, axis=1)
    top, left = 64 + 12, 24 + 250
    assert (sheet[top : top + scale * side, left : left + scale * side] == frame).all()


def test_a_clip_that_cannot_be_read_is_said(squares: Path, tmp_path: Path) -> None:
    gone = [replace(clip, source_path=str(tmp_path / "gone.mp4")) for clip in read_clips(squares)]
    write_clips(tmp_path / "dataset", "0", gone)
    (tmp_path / "dataset" / "dataset.toml").write_text("")
    shown = first_samples(tmp_path / "dataset", CONFIG, steps=50)
    assert all("cannot be read" in one.error for one in shown)
    assert draw_sheet("gone", shown).std() > 0


def test_long_sheets_say_what_is_left_out(squares: Path) -> None:
    shown = first_samples(squares, CONFIG, steps=50) * 3
    assert draw_sheet("many", shown, most=2).shape[0] < draw_sheet("many", shown).shape[0]
    assert np.asarray(draw_sheet("many", shown, most=2)).shape[1] == 1280
