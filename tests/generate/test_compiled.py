"""torch.compile at generation: the same video but for rounding, and nothing left out in silence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from kinema.denoiser import VideoShape, sample_latents
from kinema.errors import ConfigError
from kinema.generate.config import GenerateConfig
from kinema.generate.loading import ready_model
from kinema.generate.pipeline import generate, request_record
from kinema.location import embedded_model
from kinema.nn.compiling import compiled_graphs
from kinema.progress import Silent
from kinema.train.config import TrainConfig
from kinema.train.loop import train


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler warns of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_a_compiled_network_makes_the_same_video_but_for_rounding(tmp_path: Path) -> None:
    latents, before = [], compiled_graphs()
    for compiled in (False, True):
        model, _ = ready_model(embedded_model(), GenerateConfig(prompt="a star", compile=compiled))
        latents.append(
            sample_latents(
                model,
                "a red star moves left",
                VideoShape(height=64, width=64, frames=8, fps=8.0),
                steps=3,
                guidance_scale=4.0,
                generator=torch.Generator().manual_seed(0),
            )
        )
    assert compiled_graphs() > before
    torch.testing.assert_close(*latents, rtol=1e-3, atol=1e-3)
    out = tmp_path / "star.png"
    generate(
        embedded_model(), GenerateConfig(prompt="a star", steps=2, frames=1, compile=True), out, Silent()
    )
    assert json.loads(out.with_name("star.png.json").read_text())["compiled"] is True


def test_it_is_no_part_of_what_makes_a_video_what_it_is() -> None:
    asked, without = (GenerateConfig(prompt="a star", compile=compiled) for compiled in (True, False))
    assert request_record(asked) == request_record(without)


def test_a_video_unet_is_refused(squares: Path, small_unet_run: TrainConfig, tmp_path: Path) -> None:
    train(small_unet_run, squares, tmp_path / "run")
    with pytest.raises(ConfigError, match="leave it out for a video UNet"):
        ready_model(tmp_path / "run", GenerateConfig(prompt="a star", compile=True))
