from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.train.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_it_is_pytorchs_muon_but_for_rounding(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, generator=generator)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.1}
    one, two = Muon([mine], **settings), torch.optim.Muon([theirs], **settings)
    for _ in range(4):
        mine.grad = torch.randn(shape, generator=generator)
        theirs.grad = mine.grad.clone()
        one.step()
        two.step()
    torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=0)
    assert torch.equal(one.state[mine]["momentum_buffer"], two.state[theirs]["momentum_buffer"])


def test_its_update_is_nearly_orthogonal() -> None:
    group = {"ns_coefficients": (3.4445, -4.7750, 2.0315), "ns_steps": 5, "eps": 1e-7}
    matrix = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrix, group))
    assert values.min() > 0.5
    assert values.max() < 1.4
