"""Pieces of the video UNet whose backward pass computes cheap things again instead of keeping them.

Each falls back to plain modules where a layer has been replaced (by a low-rank adapter) or is compiled.
"""
# ruff: noqa: ANN401 (the context of an autograd function has no type)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from kinema.nn.products import Linear, add_mm, linear, mm


def group_norm_silu(features: Tensor, norm: nn.GroupNorm, frames: int = 1) -> Tensor:
    """SiLU(norm(features)); with `frames`, the statistics are of all frames of a clip.

    Under autocast on the CPU it computes in float32: the kernels for bfloat16 are slower.
    """
    dtype = features.dtype
    if features.device.type == "cpu" and norm.weight.dtype == torch.float32:
        features = features.float()
    if frames > 1:
        clip = rearrange(features, "(b t) c h w -> b (t h) w c", t=frames).permute(0, 3, 1, 2)
        out = functional.silu(norm(clip)).to(dtype)
        return rearrange(out, "b c (t h) w -> (b t) h w c", t=frames).permute(0, 3, 1, 2)
    return functional.silu(norm(features)).to(dtype)


def temporal_conv(features: Tensor, weight: Tensor, bias: Tensor, frames: int) -> Tensor:
    """A (3, 1, 1) convolution with zero padding over the frames of each clip."""
    height = features.shape[2]
    tokens = rearrange(features, "(b t) c h w -> b t (h w) c", t=frames)
    dtype = _compute_dtype(features)
    taps = weight[..., 0, 0].permute(2, 1, 0)
    out: Tensor = _TemporalConv.apply(  # type: ignore[no-untyped-call]
        tokens.to(dtype).contiguous(), taps.to(dtype).contiguous(), bias.to(dtype)
    )
    return rearrange(out, "b t (h w) c -> (b t) h w c", h=height).permute(0, 3, 1, 2)


class _TemporalConv(torch.autograd.Function):
    """Three matrix products: one of all frames, two of shifted ones that are added."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, taps: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, taps)
        with torch.autocast(tokens.device.type, enabled=False):
            out = linear(tokens, taps[1].T, bias)
            for clip, result in zip(tokens, out, strict=True):
                if len(clip) > 1:
                    add_mm(result[1:].flatten(0, 1), clip[:-1].flatten(0, 1), taps[0])
                    add_mm(result[:-1].flatten(0, 1), clip[1:].flatten(0, 1), taps[2])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, taps = ctx.saved_tensors
        grad = grad.contiguous()
        grad_tokens, grad_taps = linear(grad, taps[1]), torch.zeros_like(taps)
        add_mm(grad_taps[1], tokens.flatten(0, 2).T, grad.flatten(0, 2))
        for clip, outer, inner in zip(tokens, grad, grad_tokens, strict=True):
            if len(clip) > 1:
                add_mm(inner[:-1].flatten(0, 1), outer[1:].flatten(0, 1), taps[0].T)
                add_mm(inner[1:].flatten(0, 1), outer[:-1].flatten(0, 1), taps[2].T)
                add_mm(grad_taps[0], clip[:-1].flatten(0, 1).T, outer[1:].flatten(0, 1))
                add_mm(grad_taps[2], clip[1:].flatten(0, 1).T, outer[:-1].flatten(0, 1))
        return grad_tokens, grad_taps, grad.sum(dim=(0, 1, 2))


def layer_norm_linear(tokens: Tensor, norm: nn.LayerNorm, linears: Sequence[nn.Module]) -> list[Tensor]:
    """Several projections of the normalised tokens; plain ones are one product."""
    normed = norm(tokens)
    if all(type(part) is Linear and part.bias is None for part in linears):
        weight = torch.cat([part.weight for part in linears if isinstance(part.weight, Tensor)])
        return list(linear(normed, weight).chunk(len(linears), dim=-1))
    return [part(normed) for part in linears]


def geglu_residual(tokens: Tensor, norm: nn.LayerNorm, proj: nn.Module, out: nn.Module) -> Tensor:
    """tokens + out(value * GELU(gate)), value and gate being proj(norm(tokens))."""
    plain = type(proj) is Linear and type(out) is Linear
    if not plain or torch.compiler.is_compiling():
        value, gate = proj(norm(tokens)).chunk(2, dim=-1)
        result: Tensor = tokens + out(value * functional.gelu(gate))
        return result
    dtype = _compute_dtype(tokens)
    flat: Tensor = _GegluResidual.apply(  # type: ignore[no-untyped-call]
        tokens.reshape(-1, tokens.shape[-1]),
        norm.weight,
        norm.bias,
        *(part.to(dtype) for part in (proj.weight, proj.bias, out.weight, out.bias)),
        norm.eps,
    )
    return flat.reshape(tokens.shape)


class _GegluResidual(torch.autograd.Function):
    """Keeps its input and the two projections: 9 widths a token in place of 18."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, *parameters: Any) -> Tensor:
        norm_weight, norm_bias, proj, proj_bias, out, out_bias, eps = parameters
        ctx.eps, half = eps, len(proj) // 2
        with torch.autocast(tokens.device.type, enabled=False):
            normed = torch.native_layer_norm(tokens, norm_weight.shape, norm_weight, norm_bias, eps)[0]
            normed = normed.to(proj.dtype)
            value = linear(normed, proj[:half], proj_bias[:half])
            gate = linear(normed, proj[half:], proj_bias[half:])
            result = linear(functional.gelu(gate).mul_(value), out, out_bias).to(tokens.dtype)
        ctx.save_for_backward(tokens, norm_weight, norm_bias, proj, out, value, gate)
        return result.add_(tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, norm_weight, norm_bias, proj, out, value, gate = ctx.saved_tensors
        half, shape = len(proj) // 2, norm_weight.shape
        normed, mean, rstd = torch.native_layer_norm(tokens, shape, norm_weight, norm_bias, ctx.eps)
        normed, outer = normed.to(proj.dtype), grad.to(proj.dtype)
        active = functional.gelu(gate)
        grad_out = mm(outer.T, active * value)
        inner = mm(outer, out)
        grad_value = active.mul_(inner)
        grad_gate = torch.ops.aten.gelu_backward(inner.mul_(value), gate)
        grad_proj = torch.cat([mm(grad_value.T, normed), mm(grad_gate.T, normed)])
        grad_normed = mm(grad_value, proj[:half]).add_(mm(grad_gate, proj[half:])).to(tokens.dtype)
        grad_tokens, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
            grad_normed, tokens, shape, mean, rstd, norm_weight, norm_bias, [True, True, True]
        )
        grad_proj_bias = torch.cat([grad_value.sum(0), grad_gate.sum(0)])
        grads = (grad_proj, grad_proj_bias, grad_out, outer.sum(0), None)
        return (grad_tokens.add_(grad), grad_weight, grad_bias, *grads)


def _compute_dtype(like: Tensor) -> torch.dtype:
    """What autocast multiplies in, else the tensor's own."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype
