from __future__ import annotations

import pytest
import torch

from kinema.bench.naive_stdit2 import naive_forward
from kinema.bench.stdit2 import Setting, measure_peak, run, training_figures

SMALL = Setting(depth=1, width=24, heads=2, frames=3, side=8, words=5, caption_channels=8)


@pytest.mark.parametrize("masked", [False, True])
def test_the_naive_form_is_the_same_network(masked: bool) -> None:
    network, inputs = SMALL.network(), SMALL.inputs()
    mask = SMALL.mask() if masked else None
    own, naive = network(*inputs, mask), naive_forward(network, *inputs, mask)
    torch.testing.assert_close(own, naive, rtol=1e-4, atol=1e-4)
    parameters = [p for p in network.parameters() if p.requires_grad]
    grads = [torch.autograd.grad(out.square().mean(), parameters) for out in (own, naive)]
    for first, second in zip(*grads, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-4)


def test_operations_are_those_of_the_products() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network, inputs = SMALL.network(), SMALL.inputs()
    with FlopCounterMode(display=False) as counter:
        naive_forward(network, *inputs).square().mean().backward()
    assert counter.get_total_flops() == pytest.approx(SMALL.operations(), rel=0.25)


def test_every_figure_is_measured() -> None:
    summary = run(rounds=1, setting=SMALL)
    names = [figure["name"] for figure in summary["figures"]]
    assert len(names) == len(set(names)) == 12
    graphs = next(f for f in summary["figures"] if f["unit"] == "graphs")
    assert graphs["value"] == 2
    assert all(figure["value"] > 0 for figure in summary["figures"])


def test_memory_is_measured() -> None:
    assert 0.01 < measure_peak("plain", SMALL) < 16


def test_figures_can_be_asked_for_alone() -> None:
    assert sum(1 for _ in training_figures(SMALL, 1)) >= 5
