from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from kinema.nn import Conditioning, STDiT2, STDiT2Config
from kinema.nn.flops import LatentShape, forward_flops, training_flops


@pytest.mark.parametrize("joint_time", [False, True])
@pytest.mark.parametrize("shape", [(3, 6, 8), (1, 7, 5), (16, 4, 4)])
def test_agrees_with_a_counted_forward_pass(shape: tuple[int, int, int], joint_time: bool) -> None:
    config = STDiT2Config(
        depth=2, hidden=96, heads=4, caption_channels=32, max_tokens=12, joint_time=joint_time
    )
    frames, height, width = shape
    facts = torch.ones(1)
    conditioning = Conditioning(
        tokens=torch.randn(1, 12, 32),
        token_mask=None,
        height=64 * facts,
        width=64 * facts,
        aspect_ratio=facts,
        frames=facts,
        fps=facts,
    )
    # Attention is counted as its two matrix products, whichever kernel runs.
    with (
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
        FlopCounterMode(display=False) as count,
    ):
        STDiT2(config)(torch.randn(1, 4, *shape), facts, conditioning)
    expected = forward_flops(config, LatentShape(frames=frames, height=height, width=width, words=12))
    assert count.get_total_flops() == pytest.approx(expected, rel=0.08)


def test_the_published_benchmark_step_is_as_counted_there() -> None:
    # 566 GFLOP for depth 8, width 384, 4 x 16 x 32 x 32 latents and 120 words.
    config = STDiT2Config(depth=8, hidden=384, heads=6, caption_channels=384, max_tokens=120)
    shape = LatentShape(frames=16, height=32, width=32, words=120)
    assert training_flops(config, shape) == pytest.approx(566e9, rel=0.05)
