"""How a frame's vectors steer its tokens: a scale and a shift before a branch, a gate after it."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from jaxtyping import Float
from torch import Tensor

from kinema.nn import fused


def modulate(
    tokens: Float[Tensor, "b t s d"], shift: Float[Tensor, "b t 1 d"], scale: Float[Tensor, "b t 1 d"]
) -> Float[Tensor, "b t s d"]:
    """LayerNorm without weights, then the frame's own scale and shift."""
    if fused.applies(tokens):
        return fused.modulate(tokens, shift, scale)
    return torch.addcmul(shift, F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6), 1 + scale)


def add_gated(
    tokens: Float[Tensor, "b t s d"], gate: Float[Tensor, "b t 1 d"], branch: Float[Tensor, "b t s d"]
) -> Float[Tensor, "b t s d"]:
    """A residual, weighed by the frame's own gate."""
    if fused.applies(tokens):
        return fused.add_gated(tokens, gate, branch)
    return torch.addcmul(tokens, gate, branch)
