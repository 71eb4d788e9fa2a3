"""Plain forms first."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional


def group_norm_silu(features: Tensor, norm: nn.GroupNorm, frames: int = 1) -> Tensor:
    if frames > 1:
        clip = rearrange(features, "(b t) c h w -> b (t h) w c", t=frames).permute(0, 3, 1, 2)
        out = functional.silu(norm(clip))
        return rearrange(out, "b c (t h) w -> (b t) h w c", t=frames).permute(0, 3, 1, 2)
    return functional.silu(norm(features))


def temporal_conv(features: Tensor, weight: Tensor, bias: Tensor | None, frames: int) -> Tensor:
    h = features.shape[2]
    clip = rearrange(features, "(b t) c h w -> b t (h w) c", t=frames).permute(0, 3, 1, 2)
    out = functional.conv2d(clip, weight[..., 0], bias, padding=(1, 0))
    return rearrange(out, "b c t (h w) -> (b t) h w c", h=h).permute(0, 3, 1, 2)


def layer_norm_linear(tokens: Tensor, norm: nn.LayerNorm, linears: Sequence[nn.Module]) -> list[Tensor]:
    normed = norm(tokens)
    return [linear(normed) for linear in linears]


def geglu_residual(tokens: Tensor, norm: nn.LayerNorm, proj: nn.Module, out: nn.Module) -> Tensor:
    value, gate = proj(norm(tokens)).chunk(2, dim=-1)
    result: Tensor = tokens + out(value * functional.gelu(gate))
    return result
