from __future__ import annotations

import numpy as np
import pytest
import torch

from kinema.bench.camera_lora import _MOVES, COMMANDS, Recipe, Stage, _label, _moved, _moves, run
from kinema.errors import ConfigError
from kinema.video.writer import write_image

TINY = Recipe(
    frames=4,
    crops=1,
    components=4,
    width=32,
    stages=(Stage(1, 1.0, 1.2), Stage(1, 2.0, 1.6)),
    loras=(Stage(1, 3.2, 1.0),) * 3,
    lora_crops=1,
    batch=2,
    samples=2,
)


def photo(seed):
    """Large soft spots."""
    noise = np.random.default_rng(seed).normal(size=(24, 32, 3))
    import cv2

    large = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 60 * large, 0, 255).astype(np.uint8)


def test_it_runs_from_photographs_to_shares(tmp_path):
    for number in range(10):
        write_image(tmp_path / f"{number}.png", photo(number))
    figures = {figure["name"]: figure for figure in run(tmp_path, TINY)["figures"]}
    assert figures["as commanded"]["target"] == 0.8
    assert figures["as commanded"]["peer"] == "without guidance"
    assert figures["as commanded without LoRA"]["target"] == 0.4
    assert all(0 <= figure["value"] <= 1 for figure in figures.values())
    assert len(figures) == 3 + len(COMMANDS)


def test_the_scorer_knows_the_moves_at_this_size():
    """What is learned from is what it is called, so that a share of 1 can be reached."""
    frames, moves, _ = _moves([photo(1), photo(2)], _MOVES, 1, Recipe())
    right = [label == move for label, move in zip(map(_label, frames), moves, strict=True)]
    assert sum(right) >= 0.8 * len(right)


def test_what_is_made_does_not_depend_on_contrast():
    """A pale photograph moves like a strong one; what stands still differs by nothing."""
    latents = torch.randn(2, 3, 4, 2, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_moved(0.1 * latents + 2), _moved(latents))
    assert not _moved(latents[:, :, :1].expand(-1, -1, 4, -1, -1)).any()


def test_it_names_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.delenv("KINEMA_FOOTAGE", raising=False)
    with pytest.raises(ConfigError, match="10 photographs"):
        run(tmp_path)
