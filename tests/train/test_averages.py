from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.errors import ConfigError
from kinema.model import load_model
from kinema.train.averages import choose_average
from kinema.train.config import TrainConfig
from kinema.train.loop import train


def test_an_average_is_chosen_afterwards(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    """It is the one that a run with that decay alone has, also after a stop."""
    several = replace(small_run, ema_decay=0.99, ema_also=(0.1, 0.5))
    train(replace(several, steps=3), squares, tmp_path / "several")
    train(several, squares, tmp_path / "several", resume=True)
    train(replace(small_run, ema_decay=0.1), squares, tmp_path / "alone")
    result = choose_average(tmp_path / "several", 0.1, tmp_path / "chosen")
    assert result["kept"] == [0.1, 0.5]
    chosen, alone = load_model(tmp_path / "chosen"), load_model(tmp_path / "alone")
    first = load_model(tmp_path / "several").network.state_dict()
    for name, value in chosen.network.state_dict().items():
        assert torch.equal(value, alone.network.state_dict()[name]), name
    assert any(not torch.equal(value, chosen.network.state_dict()[name]) for name, value in first.items())
    for name, value in chosen.text_encoder.state_dict().items():  # type: ignore[attr-defined]
        assert torch.equal(value, alone.text_encoder.state_dict()[name])  # type: ignore[attr-defined]


def test_one_that_was_not_kept_is_refused(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    train(replace(small_run, steps=1, ema_also=(0.5,)), squares, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"decay 0\.9; it kept: 0\.5"):
        choose_average(tmp_path / "run", 0.9, tmp_path / "chosen")
    with pytest.raises(ConfigError, match="no checkpoints"):
        choose_average(tmp_path, 0.9, tmp_path / "chosen")
    with pytest.raises(ValueError, match="other decays"):
        replace(small_run, ema_also=(0.99,))
