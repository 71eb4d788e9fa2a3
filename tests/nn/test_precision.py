"""What must not be rounded when the rest runs in bf16."""

from __future__ import annotations

import torch

from kinema.nn import STDiT2, STDiT2Config
from kinema.nn.conditioning import Conditioning
from kinema.nn.layers import RotaryEmbedding, sinusoid


def test_bf16_autocast_keeps_a_thousand_timesteps_apart():
    seen = []
    network = STDiT2(STDiT2Config(depth=1, hidden=24, heads=2, caption_channels=8, max_tokens=4))
    network.t_embedder.mlp.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    one = torch.ones(1000)
    facts = Conditioning(
        tokens=torch.zeros(1000, 4, 8), height=one, width=one, aspect_ratio=one, frames=one, fps=one
    )
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        network.modulations(torch.arange(1000.0), facts, None)
    assert seen[0].dtype == torch.float32
    assert len(seen[0].unique(dim=0)) == 1000
    assert len(seen[0].bfloat16().unique(dim=0)) == 1000
    rounded = sinusoid(torch.arange(1000.0).bfloat16(), 256)
    assert len(rounded.unique(dim=0)) < 600


def test_rotation_angles_stay_float32_under_autocast_and_in_a_bf16_network():
    exact = RotaryEmbedding(64)(128)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(RotaryEmbedding(64)(128), exact, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(RotaryEmbedding(64).bfloat16()(128), exact, strict=True))
