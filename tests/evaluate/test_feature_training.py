"""The feature network can be trained again, the same from the same seed; damages do what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.errors import DatasetError
from kinema.evaluate.embedded_features import FeatureNet, load_network
from kinema.evaluate.feature_training import (
    DAMAGES,
    FeatureTrainingConfig,
    blurred,
    contrast,
    damaged,
    damaged_order,
    train_features,
)

SMALL = FeatureTrainingConfig(steps=3, batch_size=3, frames=4, crop=24, side=32, fps=12.0, most_s=3.0)


def strengths(**given: float) -> np.ndarray:
    return np.array([given.get(name, 0.0) for name in DAMAGES])


def test_training_is_repeatable_and_its_file_is_read(footage: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    summary = train_features([footage], first, SMALL)
    assert summary == train_features([footage], second, SMALL) | {"out": str(first)}
    assert first.read_bytes() == second.read_bytes()
    assert isinstance(load_network(first), FeatureNet)
    assert summary["videos"] == 2


def test_footage_that_teaches_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(DatasetError, match="no footage to learn from"):
        train_features([tmp_path], tmp_path / "out.safetensors", SMALL)


def test_no_damage_leaves_a_clip_as_it_is() -> None:
    view = torch.rand(3, 4, 24, 24) * 2 - 1
    generator = np.random.default_rng(0)
    assert torch.equal(damaged(view, strengths(), generator), view)
    assert damaged_order(strengths(), 6, generator).tolist() == list(range(6))


def test_damages_do_what_they_are_called() -> None:
    generator = np.random.default_rng(0)
    view = torch.rand(3, 4, 24, 24) - 0.5
    assert damaged(view, strengths(blur=0.5), generator).std() < 0.5 * view.std()
    assert damaged(view, strengths(noise=0.5), generator).std() > view.std()
    assert torch.equal(damaged(view, strengths(grey=1.0), generator)[0], view.mean(0))
    assert sorted(damaged_order(strengths(shuffle=1.0), 8, generator).tolist()) == list(range(8))
    assert len(set(damaged_order(strengths(freeze=1.0), 8, generator).tolist())) == 1


def test_a_blur_keeps_the_mean_of_an_even_picture() -> None:
    assert torch.allclose(blurred(torch.full((3, 2, 16, 16), 0.3), 1.5), torch.tensor(0.3), atol=1e-6)


def test_contrast_is_least_where_each_view_meets_its_other() -> None:
    windows = torch.eye(6)
    matched, found = contrast(torch.cat([windows, windows]), 0.1)
    mixed, missed = contrast(torch.cat([windows, windows.roll(1, 0)]), 0.1)
    assert (found, missed) == (1.0, 0.0)
    assert matched < 0.01 < mixed
