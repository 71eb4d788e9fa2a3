from __future__ import annotations

import math

import pytest
import torch

from kinema.nn.layers import PatchEmbed, RMSNorm, RotaryEmbedding, position_embedding, rotate, sinusoid


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sinusoid_has_the_cosines_first_and_stays_float32():
    embedded = sinusoid(torch.tensor([0.0, 3.0], dtype=torch.bfloat16), 8)
    assert embedded.dtype == torch.float32
    assert embedded[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    expected = [math.cos(3 * 10_000 ** (-k / 4)) for k in range(4)]
    assert embedded[1, :4].tolist() == pytest.approx(expected, abs=1e-6)


def test_all_timesteps_stay_distinct():
    assert len(sinusoid(torch.arange(1000), 256).unique(dim=0)) == 1000


def test_rms_norm():
    values = normal(3, 8)
    normed = RMSNorm(8)(values)
    torch.testing.assert_close(normed.square().mean(-1), torch.ones(3), rtol=1e-4, atol=0)
    torch.testing.assert_close(normed * values.norm(dim=-1, keepdim=True) / 8**0.5, values)


def test_rms_norm_of_zero_has_a_finite_gradient():
    values = torch.zeros(2, 8, requires_grad=True)
    RMSNorm(8)(values).sum().backward()
    assert torch.isfinite(values.grad).all()


def test_rotation_depends_on_relative_position_only():
    cosines, sines = RotaryEmbedding(8)(6)
    query, key = (
        rotate(normal(1, 1, 1, 1, 8, seed=s).expand(-1, 6, -1, -1, -1), cosines, sines)[0, :, 0, 0]
        for s in (1, 2)
    )
    scores = query @ key.T
    for offset in range(-5, 6):
        diagonal = scores.diagonal(offset)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal))
    assert not torch.allclose(scores[0, 1], scores[0, 2])


def test_rotation_turns_neighbouring_channels():
    angle = torch.tensor([[0.3, 1.1]])
    turned = rotate(torch.tensor([1.0, 0, 0, 1]).reshape(1, 1, 1, 1, 4), angle.cos(), angle.sin()).flatten()
    expected = [math.cos(0.3), math.sin(0.3), -math.sin(1.1), math.cos(1.1)]
    assert turned.tolist() == pytest.approx(expected, abs=1e-6)


def test_patch_embedding_is_the_padded_convolution():
    embed = PatchEmbed(4, 12, (1, 2, 2))
    latents = normal(2, 4, 3, 5, 7)
    expected = embed.proj(torch.nn.functional.pad(latents, (0, 1, 0, 1))).flatten(3).permute(0, 2, 3, 1)
    torch.testing.assert_close(embed(latents), expected, rtol=1e-4, atol=1e-5)


def test_positions_of_a_larger_picture_are_the_same_places():
    """Twice the size on twice the grid: every second place coincides, the base grid being twice as fine."""
    small = position_embedding(torch.tensor([1.0]), 4, 4, 16)[0].reshape(4, 4, 16)
    large = position_embedding(torch.tensor([2.0]), 8, 8, 16)[0].reshape(8, 8, 16)
    torch.testing.assert_close(large[::2, ::2], small)
    assert torch.equal(small[0, :, 8:], small[0, :1, 8:].expand(4, -1))
