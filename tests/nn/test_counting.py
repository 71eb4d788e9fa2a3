from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kinema.nn import STDiT2, STDiT2Config, VideoConditioning, VideoUNetConfig, build_network
from kinema.nn.conditioning import Conditioning
from kinema.nn.counting import _Kept, count_parameters, step_cost
from kinema.nn.flops import LatentShape

STDIT2 = STDiT2Config(depth=2, hidden=384, heads=6, caption_channels=16, max_tokens=8)
UNET = VideoUNetConfig(channels=(32, 64), heads=(2, 4), attention=(True, False), layers=1, context_width=16)
SHAPE = LatentShape(frames=2, height=24, width=24, words=8)


def stdit2(network: STDiT2) -> Callable[[], Tensor]:
    one = torch.ones(1)
    told = Conditioning(
        tokens=torch.zeros(1, 8, 16), height=one, width=one, aspect_ratio=one, frames=one, fps=one
    )
    latents = torch.zeros(1, 4, SHAPE.frames, SHAPE.height, SHAPE.width)
    return lambda: network(latents, one, told, torch.ones(1, SHAPE.frames, dtype=torch.bool))  # type: ignore[no-any-return]


def test_the_formula_of_what_is_kept_agrees_with_what_is_kept() -> None:
    network = build_network(STDIT2)
    kept = _Kept(network)
    with kept:
        stdit2(network)()
    assert kept.numbers == pytest.approx(step_cost(STDIT2, SHAPE).kept, rel=0.15)


def test_checkpointing_keeps_less_and_counts_the_same_operations() -> None:
    for config in (STDIT2, UNET):
        plain, again = step_cost(config, SHAPE), step_cost(config, SHAPE, checkpointing=True)
        assert again.kept < plain.kept
        assert again.flops == plain.flops


def test_a_unet_is_counted_without_computing() -> None:
    cost = step_cost(UNET, SHAPE)
    wide = step_cost(UNET, replace(SHAPE, width=48))
    assert wide.flops == pytest.approx(2 * cost.flops, rel=0.2)
    assert wide.kept == pytest.approx(2 * cost.kept, rel=0.2)
    assert 0 < step_cost(UNET, replace(SHAPE, frames=1)).flops < cost.flops / 2


def test_a_unets_first_layer_has_the_operations_of_its_convolution() -> None:
    """All but linear in the input channels: two more of them are a convolution's share more, three times."""
    more = step_cost(replace(UNET, in_channels=10), SHAPE).flops - step_cost(UNET, SHAPE).flops
    pixels = SHAPE.frames * SHAPE.height * SHAPE.width
    assert more == 3 * 2 * pixels * 9 * 2 * UNET.channels[0]


def test_parameters() -> None:
    for config in (STDIT2, UNET):
        real = sum(parameter.numel() for parameter in build_network(config).parameters())  # type: ignore[arg-type]
        assert count_parameters(config) == real


def test_the_real_unet_keeps_what_was_counted() -> None:
    network = build_network(UNET)
    kept = _Kept(network)
    told = VideoConditioning(tokens=torch.zeros(1, 8, 16), values=torch.zeros(1, 3))
    with kept:
        network(torch.zeros(1, 8, SHAPE.frames, SHAPE.height, SHAPE.width), torch.zeros(1), told)
    assert kept.numbers == pytest.approx(step_cost(UNET, SHAPE).kept, rel=0.5)
