"""Views of objects beside the true ones: what is compared with what, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.cli import main
from kinema.dataset.buckets import BucketRule
from kinema.dataset.store import kept_clips
from kinema.errors import ConfigError, DatasetError
from kinema.evaluate import orbits as measured
from kinema.evaluate.orbits import OrbitsConfig, compare_orbits, true_views
from kinema.model import load_model
from kinema.render.dataset import OrbitConfig, render_orbits
from kinema.train.config import TrainConfig
from kinema.train.loop import train

trimesh = pytest.importorskip("trimesh", reason="meshes need the extra `meshes`")
VIEWS = 4


@pytest.fixture(scope="module")
def orbits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orbits")
    trimesh.creation.box(extents=(1, 0.4, 0.2)).export(folder / "box.obj")
    render_orbits(
        [folder / "box.obj"], folder / "ds", OrbitConfig(orbits=2, frames=2 * VIEWS, size=32, samples=1)
    )
    return folder / "ds"


@pytest.fixture(scope="module")
def model(squares: Path, small_unet_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("model") / "run"
    train(replace(small_unet_run, task="image-to-video", steps=1, save_every=1), squares, out)
    return out


def test_the_true_views_are_at_equal_angles(orbits: Path, model: Path) -> None:
    """The model makes half as many views as were rendered: every other one is its own."""
    (clip, *_) = kept_clips(orbits)
    loaded = load_model(model)
    every = replace(loaded, sampling=replace(loaded.sampling, frames=2 * VIEWS))
    half = replace(loaded, sampling=replace(loaded.sampling, frames=VIEWS))
    assert np.array_equal(true_views(orbits, clip, half), true_views(orbits, clip, every)[::2])


def test_perfect_views_are_perfect_and_a_still_picture_is_not(
    orbits: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = {}

    def remembered(dataset: Path, clip: object, loaded: object) -> np.ndarray:
        truth["views"] = true_views(dataset, clip, loaded)  # type: ignore[arg-type]
        return truth["views"]

    monkeypatch.setattr(measured, "true_views", remembered)
    monkeypatch.setattr(measured, "made_views", lambda *_: truth["views"])
    found = compare_orbits(model, orbits)
    assert found["orbits"] == 2
    assert found["metrics"]["psnr"]["value"] == 100.0
    assert found["metrics"]["ssim"]["value"] == pytest.approx(1.0)
    assert found["still"]["psnr"]["value"] < 40
    assert found["still"]["ssim"]["value"] < 0.99


def test_a_model_is_measured_by_the_command_the_same_way_twice(
    orbits: Path, model: Path, clip_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["views", str(model), "--dataset", str(orbits), "--set", "steps=2", "--set", "orbits=1"]
    rows = []
    for _ in range(2):
        assert main([*words, "--set", f'clip="{clip_folder}"', "--json"]) == 0
        rows.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert rows[0]["metrics"] == rows[1]["metrics"]
    assert set(rows[0]["metrics"]) == {"psnr", "ssim", "clip_score"}
    assert -1 <= rows[0]["metrics"]["clip_score"]["value"] <= 1
    assert (rows[0]["orbits"], rows[0]["steps"]) == (1, 2)


def test_what_cannot_be_compared_is_said(
    orbits: Path, squares: Path, model: Path, small_unet_run: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="is no orbit; make some"):
        compare_orbits(model, squares)
    train(replace(small_unet_run, steps=1, save_every=1), squares, tmp_path / "text")
    with pytest.raises(ConfigError, match="name one that moves pictures"):
        compare_orbits(tmp_path / "text", orbits)
    long = replace(small_unet_run.data, buckets=(BucketRule(resolution="32px", frames=10),))
    train(
        replace(small_unet_run, task="image-to-video", data=long, steps=1, save_every=1),
        squares,
        tmp_path / "long",
    )
    with pytest.raises(DatasetError, match="8 views and the model makes 10"):
        compare_orbits(tmp_path / "long", orbits)
    with pytest.raises(ValueError, match="steps >= 1"):
        OrbitsConfig(steps=0)
