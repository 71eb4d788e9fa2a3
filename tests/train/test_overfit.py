from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.encoders.embedded import PatchPCAConfig
from kinema.errors import DatasetError, OutputError
from kinema.nn import STDiT2Config
from kinema.train.config import PreviewConfig, TrainConfig
from kinema.train.optim import MuonConfig
from kinema.train.overfit import overfit_one, single_minded


@pytest.fixture
def able(small_run: TrainConfig) -> TrainConfig:
    """Large enough to learn a square by heart."""
    return replace(
        small_run,
        network=STDiT2Config(depth=2, hidden=48, heads=2, input_sq_size=32),
        autoencoder=PatchPCAConfig(patch=4, components=16, whitening=0.5),
        optim=MuonConfig(lr=0.03),
        preview=PreviewConfig(steps=10),
        data=replace(small_run.data, batch_size=8),
        steps=200,
        save_every=200,
        ema_decay=0.9,
    )


def test_one_clip_is_learned_by_heart(squares: Path, able: TrainConfig, tmp_path: Path) -> None:
    result = overfit_one(able, squares, tmp_path / "one")
    assert result["learned"]
    assert result["last_loss"] < 0.3 * result["first_loss"]
    assert result["psnr"] > result["psnr_of_mean_colour"] + 10
    assert result["parity"] < 1e-3
    assert {"comparison.png", "original.mp4", "copy.mp4", "overfit.json"} <= {
        path.name for path in (tmp_path / "one").iterdir()
    }
    assert json.loads((tmp_path / "one" / "overfit.json").read_text())["clip"] == result["clip"]


def test_a_run_that_learns_nothing_is_told_apart(squares: Path, able: TrainConfig, tmp_path: Path) -> None:
    result = overfit_one(replace(able, steps=2, optim=MuonConfig(lr=1e-6)), squares, tmp_path / "one")
    assert not result["learned"]


def test_everything_that_makes_one_clip_many_is_off(able: TrainConfig) -> None:
    settings = single_minded(able)
    assert not settings.data.flip
    assert settings.data.windows == 1
    assert settings.network.caption_drop == 0


def test_a_wrong_clip_and_a_used_folder_are_refused(squares: Path, able: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no kept clip has the id nobody"):
        overfit_one(able, squares, tmp_path / "one", clip_id="nobody")
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        overfit_one(able, squares, tmp_path)
