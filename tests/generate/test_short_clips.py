"""Clips of one and of two frames, for models of each task: they work, or say why not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.cli import main
from kinema.dataset.buckets import BucketRule
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.video.reader import probe
from kinema.video.writer import write_video


@pytest.fixture(scope="module")
def between(squares: Path, small_unet_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("between") / "run"
    data = replace(small_unet_run.data, buckets=(BucketRule(resolution="32px", frames=5),))
    train(replace(small_unet_run, task="interpolation", data=data, steps=1, save_every=1), squares, out)
    return out


@pytest.fixture(scope="module")
def moving(squares: Path, small_unet_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("moving") / "run"
    train(replace(small_unet_run, task="image-to-video", steps=1, save_every=1), squares, out)
    return out


def clip(folder: Path, frames: int) -> Path:
    path = folder / f"{frames}.mp4"
    write_video(
        path, np.full((frames, 32, 32, 3), 90, np.uint8) + 40 * np.eye(32, dtype=np.uint8)[..., None], 6
    )
    return path


def test_two_frames_have_three_between_them(
    between: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["interpolate", str(clip(tmp_path, 2)), "--model", str(between), "--steps", "1", "--json"]
    assert main([*words, "--out", str(tmp_path / "out.mp4")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames_written"] == 5
    assert probe(tmp_path / "out.mp4").fps == pytest.approx(24)


def test_one_frame_has_nothing_beside_it(
    between: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["interpolate", str(clip(tmp_path, 1)), "--model", str(between), "--steps", "1"]
    assert main([*words, "--out", str(tmp_path / "out.mp4")]) == 2
    assert "1.mp4 has one frame; give a clip, or two pictures or more" in capsys.readouterr().err


def test_a_clip_of_one_frame_is_moved_like_a_picture(moving: Path, tmp_path: Path) -> None:
    words = ["animate", str(clip(tmp_path, 1)), "--model", str(moving), "--steps", "1"]
    assert main([*words, "--out", str(tmp_path / "out.mp4")]) == 0
    assert probe(tmp_path / "out.mp4").frames == 4


def test_footage_of_one_frame_trains_images(
    small_unet_run: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "footage").mkdir()
    for number in range(2):
        frame = np.random.default_rng(number).integers(0, 255, (1, 64, 64, 3), np.uint8)
        write_video(tmp_path / "footage" / f"still {number}.mp4", frame, 6)
    dataset = tmp_path / "dataset"
    curate = [
        "curate",
        str(tmp_path / "footage"),
        "--out",
        str(dataset),
        "--set",
        "filters.duration_s.min=0.0",
    ]
    assert main([*curate, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["kept"] == 2
    train(replace(small_unet_run, steps=1, save_every=1), dataset, tmp_path / "run")
