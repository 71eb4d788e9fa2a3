"""The rendered dataset: like any other to the rest of kinema, and with its truth."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.dataset.buckets import BucketRule
from kinema.dataset.config import DataConfig
from kinema.dataset.loader import iterate_batches
from kinema.dataset.plan import make_plan
from kinema.errors import OutputError
from kinema.manifest import read_clips, read_sources
from kinema.video.writer import Encoding, write_video
from kinema.world.dataset import RenderConfig, render_world, truths
from kinema.world.draw import WorldConfig, scenes
from kinema.world.render import render

SMALL = RenderConfig(clips=6, images=5, seed=3, lengths=(16, 24), sizes=((64, 64), (48, 80)))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "dataset"
    assert render_world(folder, SMALL)["clips"] == 6
    return folder


def test_rows_and_truths_agree(dataset):
    clips, scenes = read_clips(dataset), truths(dataset)
    assert {clip.clip_id for clip in clips} == set(scenes)
    assert len(clips) == 11
    for clip in clips:
        scene = scenes[clip.clip_id]
        assert (clip.frames, clip.height, clip.width) == (scene.frames, scene.height, scene.width)
        assert clip.captions
        assert scene.things[0].colour in clip.captions[0].text
    assert [source.status for source in read_sources(dataset)] == ["done"]


def test_what_is_read_is_what_was_rendered(dataset):
    scenes = truths(dataset)
    rules = (BucketRule(resolution="64px", frames=1),)
    batches = iterate_batches(dataset, DataConfig(buckets=rules, batch_size=2, workers=0))
    batch = next(batches)
    for video, name in zip(batch.video, batch.clip_ids, strict=True):
        wanted = render(scenes[name])[0]
        if wanted.shape[:2] == (64, 64):
            seen = ((video[:, 0].permute(1, 2, 0).numpy() + 1) * 127.5).round()
            assert np.abs(seen - wanted).max() <= 1


def test_the_same_seed_is_the_same_dataset(dataset, tmp_path):
    render_world(tmp_path / "again", SMALL)
    assert read_clips(tmp_path / "again") == read_clips(dataset)
    first, second = (folder / "shards/clips-00000.tar" for folder in (dataset, tmp_path / "again"))
    assert first.read_bytes() == second.read_bytes()


def test_the_same_frames_are_the_same_bytes_each_time(tmp_path):
    """With x264's macroblock tree some of these clips came out differently within a few rounds."""
    drawn = list(scenes(WorldConfig(camera_share=0.5), 12, seed=3))
    encoding = Encoding(crf=12, preset="veryfast", gop=16, threads=1)
    found = [set() for _ in drawn]
    for _ in range(16):
        for scene, seen in zip(drawn, found, strict=True):
            write_video(tmp_path / "clip.mp4", render(scene), fps=8.0, encoding=encoding)
            seen.add((tmp_path / "clip.mp4").read_bytes())
    assert [len(seen) for seen in found] == [1] * len(drawn)


def test_training_can_plan_with_it(dataset):
    rules = (BucketRule(resolution="64px", frames=16), BucketRule(resolution="64px", frames=1))
    plan = make_plan(dataset, DataConfig(buckets=rules))
    assert plan.kept == plan.usable == 11


def test_a_folder_in_use_is_refused(dataset):
    with pytest.raises(OutputError, match="not empty"):
        render_world(dataset, SMALL)
