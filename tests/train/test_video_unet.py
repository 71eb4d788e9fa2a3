"""The video UNet under EDM in the same trainer, model folder and generator as the transformer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.diffusion.edm import EDMConfig
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.errors import ConfigError, Interrupted
from kinema.generate.pipeline import GenerateConfig, generate
from kinema.model import load_model
from kinema.nn import VideoUNet
from kinema.progress import Silent
from kinema.runlog import read_metrics
from kinema.train.checkpoints import latest_checkpoint
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.train.optim import MuonConfig


class StopsAfterThree:
    """A progress that raises what Ctrl-C does, after three steps."""

    def __init__(self) -> None:
        self.done = 0

    def stage(self, name: str, total: int | None = None) -> None:
        self.done = 0

    def line(self, text: str) -> None: ...

    def advance(self, steps: int = 1, note: str = "") -> None:
        import os
        import signal

        self.done += steps
        if self.done == 3 and steps:
            os.kill(os.getpid(), signal.SIGTERM)


def remembered(run: Path) -> dict[str, Any]:
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    return checkpoint.groups


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_six_steps_are_three_and_resume_and_three(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path, optim: str
) -> None:
    config = small_unet_run if optim == "adamw" else replace(small_unet_run, optim=MuonConfig())
    train(config, squares, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(config, squares, tmp_path / "halves", progress=StopsAfterThree())
    assert train(config, squares, tmp_path / "halves", resume=True)["resumed_from"] == 3
    whole, halves = remembered(tmp_path / "whole"), remembered(tmp_path / "halves")
    assert whole.keys() == halves.keys()
    for name, tensors in whole.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, halves[name][key]), f"{name} {key}"


def test_a_run_is_a_model_that_makes_video_and_moves_a_picture(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path
) -> None:
    train(small_unet_run, squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert isinstance(model.network, VideoUNet)
    assert model.network.config.task == "text-to-video"
    assert model.process == EDMConfig()
    config = GenerateConfig(prompt="a red square", steps=2, guidance_scale=2.0, seed=3)
    first = generate(tmp_path / "run", config, tmp_path / "a.mp4", Silent())
    again = generate(tmp_path / "run", config, tmp_path / "b.mp4", Silent())
    assert first["latents_sha256"] == again["latents_sha256"]
    assert (first["task"], first["frames_written"], first["sampler"]) == ("text-to-video", 4, "euler")
    generate(tmp_path / "run", replace(config, frames=1), tmp_path / "a.png", Silent())
    moved = generate(
        tmp_path / "run", replace(config, image=tmp_path / "a.png"), tmp_path / "c.mp4", Silent()
    )
    assert moved["task"] == "image-to-video"


def test_the_loss_falls(squares: Path, small_unet_run: TrainConfig, tmp_path: Path) -> None:
    """Means of twenty steps: under EDM the loss of one step is mostly that of the noise it drew."""
    train(replace(small_unet_run, steps=200, save_every=200, optim=MuonConfig()), squares, tmp_path / "run")
    losses = [row["loss"] for row in read_metrics(tmp_path / "run")]
    assert sum(losses[-20:]) < 0.85 * sum(losses[:20])


@pytest.mark.parametrize("process", [IDDPMConfig(learned_variance=False), RectifiedFlowConfig()])
def test_any_process_trains_it(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path, process: IDDPMConfig | RectifiedFlowConfig
) -> None:
    config = replace(small_unet_run, process=process, steps=2, save_every=2)
    train(config, squares, tmp_path / "run")
    config_out = GenerateConfig(prompt="a red square", steps=2)
    assert generate(tmp_path / "run", config_out, tmp_path / "a.mp4", Silent())["frames_written"] == 4
    assert {"0", "1", "2", "3"} >= set(read_metrics(tmp_path / "run")[-1]["loss_by_noise"])


def test_the_transformer_trains_under_edm(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    config = replace(small_run, process=EDMConfig(told="timestep", sigma_max=14.0), steps=2, save_every=2)
    train(config, squares, tmp_path / "run")
    out = generate(
        tmp_path / "run", GenerateConfig(prompt="a red square", steps=2), tmp_path / "a.mp4", Silent()
    )
    assert out["frames_written"] == 4
    with pytest.raises(ConfigError, match="told"):
        train(replace(config, process=EDMConfig()), squares, tmp_path / "other")


def test_a_learned_variance_is_refused(squares: Path, small_unet_run: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learned_variance must be false"):
        train(replace(small_unet_run, process=IDDPMConfig()), squares, tmp_path / "run")
