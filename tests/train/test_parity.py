from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.dataset.loader import iterate_batches
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.processes import Process
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.encoders.protocols import training_latents
from kinema.model import Model, load_model
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.train.objective import Draws, draw
from kinema.train.parity import train_sample_parity


def shown(config: TrainConfig, dataset: Path, model: Model, frames: int) -> tuple[object, ...]:
    """A batch of the bucket, its latents and draws that keep every caption."""
    kept = replace(config, process=model.process, network=replace(config.network, caption_drop=0.0))
    batches = iterate_batches(dataset, config.data)
    batch = next(batch for batch in batches if batch.bucket.frames == frames)
    clean = training_latents(model.autoencoder, batch.video, batch.seeds)
    return batch, clean, draw(batch.seeds, tuple(clean.shape[1:]), kept)


@pytest.mark.parametrize(
    ("process", "frames"),
    [
        (IDDPMConfig(prediction="clean", learned_variance=False), 4),
        (IDDPMConfig(prediction="clean", learned_variance=False), 1),
        (IDDPMConfig(), 4),
        (RectifiedFlowConfig(), 4),
    ],
)
def test_both_paths_give_the_same_estimate(
    squares: Path, small_run: TrainConfig, tmp_path: Path, process: Process, frames: int
) -> None:
    train(replace(small_run, process=process, steps=3), squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    batch, clean, draws = shown(small_run, squares, model, frames)
    if frames > 1:
        assert isinstance(draws, Draws)
        draws = replace(draws, denoise_mask=torch.tensor([[True] * 4, [False, True, True, True]] * 2))
    found = train_sample_parity(model, batch, clean, draws, fps=6.0)  # type: ignore[arg-type]
    assert found.difference < 2e-4
    assert found.sampling.abs().max() > 0


def test_a_fault_in_one_path_shows(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    train(replace(small_run, steps=3), squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    batch, clean, draws = shown(small_run, squares, model, 4)
    right = train_sample_parity(model, batch, clean, draws, fps=6.0)  # type: ignore[arg-type]
    wrong = train_sample_parity(model, batch, clean, draws, fps=30.0)  # type: ignore[arg-type]
    assert wrong.difference > 100 * right.difference


def test_dropped_captions_are_refused(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    train(replace(small_run, steps=1), squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    batch, clean, draws = shown(small_run, squares, model, 4)
    assert isinstance(draws, Draws)
    dropped = replace(draws, caption_dropped=torch.tensor([True, False, False, False]))
    with pytest.raises(ValueError, match="without dropping"):
        train_sample_parity(model, batch, clean, dropped, fps=6.0)  # type: ignore[arg-type]
