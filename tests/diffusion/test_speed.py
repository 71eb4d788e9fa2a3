from __future__ import annotations

import torch

from kinema.diffusion import speed
from kinema.diffusion.iddpm import IDDPMConfig, tables


def test_steep_steps_are_drawn_five_times_as_often():
    chances = speed.probabilities(tables(IDDPMConfig()))
    assert abs(chances.sum().item() - 1) < 1e-5
    assert abs((chances[:600].mean() / chances[700:].mean()).item() - 5) < 1e-3


def test_drawn_timesteps_come_in_pairs_that_mirror():
    full = tables(IDDPMConfig())
    last = speed.meaningful_steps(full)
    for count in (1, 2, 7, 64):
        drawn = speed.draw_timesteps(full, count, torch.Generator().manual_seed(count))
        assert drawn.shape == (count,)
        assert drawn.min() >= 0
        assert drawn.max() < len(full)
    half, mirror = drawn[:33], drawn[33:]
    assert torch.equal((half[:31] - last).abs(), mirror)


def test_weights_grow_with_noise():
    weights = speed.step_weights(tables(IDDPMConfig()))
    assert (weights.diff() > 0).all()
    assert 0 < weights[0] < 1e-3
    assert 0.99 < weights[-1] < 1
