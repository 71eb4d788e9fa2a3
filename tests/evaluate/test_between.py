from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from kinema.dataset.buckets import BucketRule
from kinema.errors import ConfigError
from kinema.evaluate.between import compare_between, psnr
from kinema.train.loop import train

if TYPE_CHECKING:
    from kinema.train.config import TrainConfig


def test_psnr_is_that_of_pixels_from_minus_one_to_one() -> None:
    true = torch.zeros(2, 3, 1, 4, 4)
    found = true.clone()
    found[1] += 0.2
    assert psnr(found, true) == pytest.approx([100.0, 20.0], abs=0.05)


def test_a_network_along_the_flow_begins_better_than_the_blend(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path
) -> None:
    """Its output starts at zero; with an autoencoder that loses nothing, it makes the carried frames."""
    config = replace(
        small_unet_run,
        task="interpolation",
        network=replace(small_unet_run.network, along_flow=True),
        autoencoder=replace(small_unet_run.autoencoder, patch=4, components=48),
        data=replace(small_unet_run.data, buckets=(BucketRule(resolution="32px", frames=5),)),
        optim=replace(small_unet_run.optim, lr=1e-12),
        steps=1,
        save_every=1,
    )
    train(config, squares, tmp_path / "run")
    found = compare_between(tmp_path / "run", squares, batches=1, resolution="32px")
    assert found["gain_db"] > 1
    assert found["better_on"] > 0.5


def test_only_models_of_interpolation_are_compared(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path
) -> None:
    train(replace(small_unet_run, steps=1, save_every=1), squares, tmp_path / "run")
    with pytest.raises(ConfigError, match="name one of interpolation"):
        compare_between(tmp_path / "run", squares)
