"""The parts of a block for the CPU, with their backward passes written out.

Each keeps fewer tensors for the backward pass than its plain form and works through memory in pieces that
stay in the cache of a core. Results are those of the plain forms up to rounding; statistics, softmax and
rotations are float32 whatever the inputs are. On other devices, and under the compiler, plain forms serve.
"""
# ruff: noqa: ANN401, PLR0913 (an autograd function has an untyped context and positional arguments)

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from kinema.nn.products import linear, mm

EPS = 1e-6
_HIDDEN_IN_CACHE = 2**22
SMALLEST = 2**15
"""Numbers in a frame's tokens; going through smaller frames one by one costs more than it saves."""


def applies(tokens: Float[Tensor, "b t s d"]) -> bool:
    """Whether these forms are the ones to use."""
    large = tokens.shape[-2] * tokens.shape[-1] >= SMALLEST
    return large and tokens.device.type == "cpu" and not torch.compiler.is_compiling()


def compute_dtype(like: Tensor) -> torch.dtype:
    """What autocast multiplies in, else the tensor's own."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else like.dtype


def modulate(
    tokens: Float[Tensor, "b t s d"], shift: Float[Tensor, "b n 1 d"], scale: Float[Tensor, "b n 1 d"]
) -> Float[Tensor, "b t s d"]:
    """LayerNorm without weights, then each frame's scale and shift; n is t, or 1 for all frames alike."""
    out: Tensor = _Modulate.apply(tokens, shift, scale, compute_dtype(tokens))  # type: ignore[no-untyped-call]
    return out


class _Modulate(torch.autograd.Function):
    """A LayerNorm whose weight is the frame's own 1 + scale, and whose bias is its shift."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, shift: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
        weight = (1 + scale).float().flatten(0, 2)
        bias = shift.float().flatten(0, 2)
        rows = tokens.float().reshape(len(weight), -1, tokens.shape[-1])
        out = torch.empty(rows.shape, dtype=dtype)
        means, inverses = rows.new_empty(*rows.shape[:2], 1), rows.new_empty(*rows.shape[:2], 1)
        for index, row in enumerate(rows):
            normed, means[index], inverses[index] = torch.native_layer_norm(
                row, row.shape[1:], weight[index], bias[index], EPS
            )
            if len(rows) == 1 and dtype == normed.dtype:
                out = normed[None]
            else:
                out[index] = normed
        ctx.save_for_backward(tokens, weight, means, inverses)
        ctx.shape, ctx.dtypes = shift.shape, (shift.dtype, scale.dtype)
        return out.reshape(tokens.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, means, inverses = ctx.saved_tensors
        rows = tokens.float().reshape(len(weight), -1, tokens.shape[-1])
        outer = grad.reshape(rows.shape)
        parts = [
            torch.ops.aten.native_layer_norm_backward(
                outer[i].float(), row, row.shape[1:], means[i], inverses[i], weight[i], weight[i], [True] * 3
            )
            for i, row in enumerate(rows)
        ]
        inner, grad_scale, grad_shift = zip(*parts, strict=True)
        grad_tokens = inner[0] if len(inner) == 1 else torch.stack(inner)
        return (
            grad_tokens.reshape(tokens.shape).to(tokens.dtype),
            torch.stack(grad_shift).reshape(ctx.shape).to(ctx.dtypes[0]),
            torch.stack(grad_scale).reshape(ctx.shape).to(ctx.dtypes[1]),
            None,
        )


def add_gated(
    tokens: Float[Tensor, "b t s d"], gate: Float[Tensor, "b n 1 d"], branch: Float[Tensor, "b t s d"]
) -> Float[Tensor, "b t s d"]:
    """tokens + gate * branch; n is t, or 1 for all frames alike."""
    out: Tensor = _AddGated.apply(tokens, gate, branch)  # type: ignore[no-untyped-call]
    return out


class _AddGated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, gate: Tensor, branch: Tensor) -> Tensor:
        ctx.save_for_backward(gate, branch)
        return torch.addcmul(tokens, gate, branch)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, branch = ctx.saved_tensors
        grad_gate = grad.new_zeros(gate.shape)
        frames = torch.broadcast_to(grad_gate, (*grad.shape[:2], 1, grad.shape[3]))
        for b in range(grad.shape[0]):
            for t in range(grad.shape[1]):
                frames[b, t, 0].add_((grad[b, t] * branch[b, t]).sum(0))
        grad_branch = torch.mul(grad, gate.to(grad.dtype))
        return grad, grad_gate.to(gate.dtype), grad_branch.to(branch.dtype)


def mlp(
    tokens: Float[Tensor, "*n d"],
    first: tuple[Float[Tensor, "h d"], Float[Tensor, " h"]],
    second: tuple[Float[Tensor, "o h"], Float[Tensor, " o"]],
) -> Float[Tensor, "*n o"]:
    """Linear, tanh-GELU, linear, some rows at a time; each linear map is its weight and bias."""
    dtype = compute_dtype(tokens)
    rows = tokens.flatten(0, -2).to(dtype)
    weights = [part.to(dtype) for part in (*first, *second)]
    if torch.is_grad_enabled():
        out: Tensor = _Mlp.apply(rows, *weights)  # type: ignore[no-untyped-call]
    else:
        out = _through_mlp(rows, *weights)[0]
    return out.reshape(*tokens.shape[:-1], -1)


def _through_mlp(
    rows: Tensor,
    first: Tensor,
    first_bias: Tensor,
    second: Tensor,
    second_bias: Tensor,
    *,
    keep: bool = False,
) -> tuple[Float[Tensor, "n o"], list[Tensor]]:
    """The output, and what the GELU was given if `keep`."""
    out, kept = rows.new_empty(len(rows), len(second)), []
    with torch.autocast("cpu", enabled=False):
        for part in _row_pieces(rows, first):
            hidden = linear(rows[part], first, first_bias)
            out[part] = linear(functional.gelu(hidden, approximate="tanh"), second, second_bias)
            if keep:
                kept.append(hidden)
    return out, kept


class _Mlp(torch.autograd.Function):
    """Keeps its input and what the GELU is given."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, *weights: Tensor) -> Tensor:
        out, kept = _through_mlp(rows, *weights, keep=True)
        ctx.save_for_backward(rows, weights[0], weights[2], *kept)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, first, second, *kept = ctx.saved_tensors
        of_rows, of_first, of_first_bias, of_second, of_second_bias = ctx.needs_input_grad
        totals = [torch.zeros(shape) for shape in (first.shape, first.shape[:1], second.shape)]
        inner = torch.empty_like(rows)
        grad = grad.contiguous()
        for part, hidden in zip(_row_pieces(rows, first), kept, strict=True):
            outer = grad[part]
            if of_second:
                totals[2] += mm(outer.T, functional.gelu(hidden, approximate="tanh"))
            if of_rows or of_first or of_first_bias:
                slope = torch.ops.aten.gelu_backward(mm(outer, second), hidden, approximate="tanh")
                totals[1] += slope.sum(0)
            if of_first:
                totals[0] += mm(slope.T, rows[part])
            if of_rows:
                inner[part] = mm(slope, first)
        found = (inner, *(total.to(rows.dtype) for total in totals), grad.sum(0) if of_second_bias else None)
        return tuple(
            value if wanted else None for value, wanted in zip(found, ctx.needs_input_grad, strict=True)
        )


def _row_pieces(rows: Float[Tensor, "n d"], first: Float[Tensor, "h d"]) -> list[slice]:
    size = max(1, _HIDDEN_IN_CACHE // len(first))
    return [slice(start, start + size) for start in range(0, len(rows), size)]
