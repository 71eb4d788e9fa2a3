"""Orbits: what the network is told of the camera, in training and when a picture is gone around."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kinema.cli import main
from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.denoiser.conditions import VideoShape, told
from kinema.diffusion.guidance import Guidance
from kinema.encoders.protocols import EncodedText
from kinema.errors import ConfigError
from kinema.generate.windows import Settings
from kinema.manifest import read_clips
from kinema.nn import VideoUNet, VideoUNetConfig
from kinema.nn.video_unet import Condition
from kinema.render.dataset import OrbitConfig, render_orbits
from kinema.train import objective
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.video.writer import write_image

trimesh = pytest.importorskip("trimesh", reason="meshes need the extra `meshes`")

ANGLES = tuple(Condition(name=name, width=16, angle=True) for name in ("elevation", "azimuth"))
FRAMES = 4


@pytest.fixture(scope="module")
def orbits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orbits")
    trimesh.creation.box().export(folder / "box.obj")
    config = OrbitConfig(orbits=2, frames=FRAMES, size=32, samples=1)
    render_orbits([folder / "box.obj"], folder / "ds", config)
    return folder / "ds"


@pytest.fixture
def config(small_unet_run: TrainConfig) -> TrainConfig:
    buckets = (BucketRule(resolution="32px", frames=FRAMES),)
    data = DataConfig(buckets=buckets, bucketing=Timed(fps=7.0), batch_size=2, workers=0)
    network = replace(small_unet_run.network, conditions=ANGLES)
    return replace(small_unet_run, task="image-to-video", network=network, data=data, steps=2, save_every=2)


def test_training_tells_each_frame_its_angles(
    orbits: Path, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    original = objective.told

    def watched(network: Any, text: Any, shape: Any, facts: Any, *rest: Any, **more: Any) -> Any:
        seen.append(facts)
        return original(network, text, shape, facts, *rest, **more)

    monkeypatch.setattr(objective, "told", watched)
    train(config, orbits, tmp_path / "run")
    elevations = {round(clip.elevation or 0, 3) for clip in read_clips(orbits)}
    told_once = seen[-1]  # the first is the heaviest batch of noise, before the first step
    assert {round(value, 3) for value in told_once["elevation"].rad2deg().tolist()} <= elevations
    quarter = torch.tensor([0.0, 90.0, 180.0, 270.0]).expand(2, -1)
    torch.testing.assert_close(told_once["azimuth"].rad2deg(), quarter, rtol=1e-3, atol=1e-2)


def test_a_picture_is_gone_around_from_its_elevation(
    orbits: Path, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(config, orbits, tmp_path / "run")
    write_image(tmp_path / "chair.png", np.full((32, 32, 3), 120, np.uint8))
    command = [
        "orbit",
        str(tmp_path / "chair.png"),
        "--model",
        str(tmp_path / "run"),
        "--steps",
        "2",
    ]
    made = []
    for degrees in ("0", "30"):
        out = str(tmp_path / f"{degrees}.mp4")
        assert main([*command, "--elevation", degrees, "--out", out, "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out.splitlines()[-1]))
    assert made[0]["latents_sha256"] != made[1]["latents_sha256"]
    assert (made[1]["elevation"], made[1]["frames_written"]) == (30.0, FRAMES)
    assert made[1]["request"]["guidance_shape"] == "triangle"
    assert made[1]["request"]["guidance_first"] == 1.0


def test_footage_without_angles_trains_without_them_and_not_with_them(
    squares: Path, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="has camera angles, but clip"):
        train(config, squares, tmp_path / "none")
    without = replace(config, network=replace(config.network, conditions=()))
    train(without, squares, tmp_path / "run")
    write_image(tmp_path / "chair.png", np.full((32, 32, 3), 120, np.uint8))
    command = ["orbit", str(tmp_path / "chair.png"), "--model", str(tmp_path / "run"), "--steps", "2"]
    assert main([*command, "--out", str(tmp_path / "a.mp4")]) == 0
    assert main([*command, "--out", str(tmp_path / "a.mp4"), "--elevation", "10"]) == 2
    assert "was not taught elevations" in capsys.readouterr().err


def test_what_is_told_of_the_clip_is_told_of_every_frame() -> None:
    network = VideoUNet(
        VideoUNetConfig(channels=(32,), heads=(1,), attention=(True,), layers=1, conditions=ANGLES)
    )
    settings = Settings(height=32, width=32, fps=7.0, steps=1, guidance=Guidance(), elevation=90.0)
    text = EncodedText(torch.zeros(2, 1, 1024), torch.ones(2, 1, dtype=torch.bool))
    shape = VideoShape(height=32, width=32, frames=3, fps=7.0)
    values = told(network, text, shape, settings.facts(2, 3)).values  # type: ignore[union-attr]
    expected = torch.tensor([[torch.pi / 2, 2 * torch.pi * at / 3] for at in range(3)]).expand(2, -1, -1)
    torch.testing.assert_close(values, expected)
