"""Attention in the precision that is faster: what it gives and what it hands back."""

import pytest
import torch
from torch import Tensor

from kinema.nn.attention import FEW_KEYS, attend


def exact(queries: Tensor, keys: Tensor, values: Tensor, key_mask: Tensor | None) -> Tensor:
    scores = queries.double() @ keys.double().transpose(-1, -2) / queries.shape[-1] ** 0.5
    scores = scores if key_mask is None else scores.masked_fill(~key_mask, float("-inf"))
    return scores.softmax(-1) @ values.double()


def drawn(count: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(count)
    parts = [torch.randn(2, 3, length, 32, generator=generator) for length in (40, count, count)]
    return [part.to(dtype).requires_grad_() for part in parts]


@pytest.mark.parametrize("count", [8, 64, FEW_KEYS + 8])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_and_its_gradients_are_those_of_the_formula(
    count: int, masked: bool, dtype: torch.dtype
) -> None:
    parts = drawn(count, dtype)
    key_mask = (torch.arange(count) < count // 2)[None, None, None].expand(2, 1, 1, -1) if masked else None
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = attend(*parts, key_mask)
    wanted = exact(*parts, key_mask)
    assert out.dtype == dtype
    close = {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(out.double(), wanted, **close)
    direction = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad((out.float() * direction).sum(), parts)
    expected = torch.autograd.grad((wanted * direction.double()).sum(), parts)
    for grad, other in zip(grads, expected, strict=True):
        torch.testing.assert_close(grad.double(), other.double(), **close)
