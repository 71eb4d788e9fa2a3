"""The parts of a block for the CPU, with their backward passes written out.

Each keeps fewer tensors for the backward pass than its plain form and works through memory in pieces that
stay in the cache of a core. Results are those of the plain forms up to rounding; statistics, softmax and
rotations are float32 whatever the inputs are. On other devices, and under the compiler, plain forms serve.
"""
# ruff: noqa: ANN401, PLR0913, PLR0917 (an autograd function has an untyped context and positional arguments)

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-6
_SCORES_IN_CACHE = 2**19
SMALLEST = 2**15
"""Numbers in a frame's tokens; going through smaller frames one by one costs more than it saves."""

Angles = tuple[Tensor, Tensor]


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


class Prepared(NamedTuple):
    """How queries or keys are made of a projection: RMS norm with `weight` and rotation, in either order."""

    weight: Float[Tensor, " d"] | None
    scale: float
    rope_first: bool


def _turn(values: Float[Tensor, "n l d"], rotation: Tensor | None) -> Float[Tensor, "n l d"]:
    """Rotate the channel pairs by the unit numbers `l pairs`."""
    if rotation is None:
        return values
    pairs = torch.view_as_complex(rearrange(values, "n l (p two) -> n l p two", two=2))
    turned: Tensor = torch.view_as_real(pairs * rotation).flatten(-2)
    return turned


def _inverse_length(values: Float[Tensor, "n l d"]) -> Float[Tensor, "n l 1"]:
    length: Tensor = torch.linalg.vector_norm(values, dim=-1, keepdim=True)
    return length.square_().div_(values.shape[-1]).add_(EPS).rsqrt_()


def _prepare(
    values: Float[Tensor, "n l d"], how: Prepared, rotation: Tensor | None
) -> Float[Tensor, "n l d"]:
    """In float32."""
    if how.weight is None:
        return _turn(values, rotation) * how.scale
    weight = how.weight * how.scale
    if how.rope_first:
        return (_turn(values, rotation) * _inverse_length(values)).mul_(weight)
    return _turn((values * _inverse_length(values)).mul_(weight), rotation)


def _unprepare(
    grad: Float[Tensor, "n l d"], values: Float[Tensor, "n l d"], how: Prepared, rotation: Tensor | None
) -> tuple[Float[Tensor, "n l d"], Float[Tensor, " d"] | None]:
    """Gradients of the values and of the weight."""
    back = None if rotation is None else rotation.conj()
    if how.weight is None:
        return _turn(grad, back) * how.scale, None
    inverse = _inverse_length(values)
    if how.rope_first:
        normed = _turn(values, rotation) * inverse
    else:
        grad, normed = _turn(grad, back), values * inverse
    weight = how.weight * how.scale
    product = grad * normed
    grad_weight = product.sum((0, 1)) * how.scale
    along = torch.matmul(product, weight).div_(-len(weight))[..., None]
    inner = (grad * weight).addcmul_(normed, along).mul_(inverse)
    return _turn(inner, back) if how.rope_first else inner, grad_weight


def attention(
    qkv: Float[Tensor, "b t s n"],
    heads: int,
    weights: tuple[Tensor, Tensor] | None,
    angles: Angles | None,
    *,
    along_time: bool,
    rope_first: bool,
) -> Float[Tensor, "b t s d"]:
    """Self-attention along time at each place, or within frames; `angles` are of frames, or of places."""
    rotation = None if angles is None else torch.complex(*angles)
    q_weight, k_weight = weights or (None, None)
    out: Tensor = _SelfAttention.apply(  # type: ignore[no-untyped-call]
        qkv, q_weight, k_weight, rotation, heads, along_time, rope_first
    )
    return out


def _groups(qkv: Float[Tensor, "b t s n"], heads: int, along_time: bool) -> list[tuple[int | slice, ...]]:
    """Pieces of `b t s` that no attention crosses and that fit a cache: single frames, or some places."""
    clips, frames, places, width = qkv.shape
    if not along_time:
        return [(b, slice(t, t + 1)) for b in range(clips) for t in range(frames)]
    size = max(1, _SCORES_IN_CACHE // (2 * frames * max(frames * heads, width // 3)))
    return [(b, slice(None), slice(s, s + size)) for b in range(clips) for s in range(0, places, size)]


def _batched(values: Float[Tensor, "t s h d"], along_time: bool) -> Float[Tensor, "n l d"]:
    """One matrix for each head (and place); strides of whole frames are too long to compute on."""
    if along_time:
        return rearrange(values, "t s h d -> (s h) t d").contiguous()
    return rearrange(values, "1 s h d -> h s d")


def _frames(values: Float[Tensor, "n l d"], along_time: bool, heads: int) -> Float[Tensor, "t s h d"]:
    if along_time:
        return rearrange(values, "(s h) t d -> t s h d", h=heads)
    return rearrange(values, "h s d -> 1 s h d")


class _SelfAttention(torch.autograd.Function):
    """Keeps the projection, the output and a number per query; prepares queries and keys once more."""

    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        q_weight: Tensor | None,
        k_weight: Tensor | None,
        rotation: Tensor | None,
        heads: int,
        along_time: bool,
        rope_first: bool,
    ) -> Tensor:
        ctx.heads, ctx.along_time, ctx.rope_first = heads, along_time, rope_first
        parts = rearrange(qkv, "b t s (n h d) -> n b t s h d", n=3, h=heads)
        ways = _ways(q_weight, k_weight, parts.shape[-1], rope_first)
        out = torch.empty(parts.shape[1:], dtype=qkv.dtype)
        sums = []
        for where in _groups(qkv, heads, along_time):
            *plain, values = (_batched(part[where], along_time) for part in parts)
            made = [_prepare(p.float(), how, rotation) for p, how in zip(plain, ways, strict=True)]
            queries, keys = (part.to(qkv.dtype)[None] for part in made)
            mixed, row = _flash(queries, keys, values[None], None)
            out[where] = _frames(mixed[0], along_time, heads)
            sums.append(row[0, ..., None])
        out = out.flatten(3)
        ctx.save_for_backward(qkv, q_weight, k_weight, rotation, out, *sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, q_weight, k_weight, rotation, out, *sums = ctx.saved_tensors
        along_time, heads = ctx.along_time, ctx.heads
        parts = rearrange(qkv, "b t s (n h d) -> n b t s h d", n=3, h=heads)
        outer, out = (part.unflatten(-1, (heads, -1)) for part in (grad, out))
        ways = _ways(q_weight, k_weight, parts.shape[-1], ctx.rope_first)
        grad_qkv = torch.empty_like(qkv)
        inner = rearrange(grad_qkv, "b t s (n h d) -> n b t s h d", n=3, h=heads)
        totals: list[Tensor | None] = [None, None]
        for where, row in zip(_groups(qkv, heads, along_time), sums, strict=True):
            *plain, values, o, g = (_batched(part[where], along_time) for part in (*parts, out, outer))
            plain = [part.float() for part in plain]
            made = [_prepare(p, how, rotation).to(qkv.dtype) for p, how in zip(plain, ways, strict=True)]
            *grads, inner_values = _attention_backward(made[0], made[1], values, row, o, g, None)
            inner[2][where] = _frames(inner_values, along_time, heads)
            for i in range(2):
                back, grad_weight = _unprepare(grads[i].float(), plain[i], ways[i], rotation)
                inner[i][where] = _frames(back, along_time, heads)
                before = totals[i]
                totals[i] = grad_weight if before is None or grad_weight is None else before + grad_weight
        return grad_qkv, *totals, None, None, None, None


def _ways(
    q_weight: Tensor | None, k_weight: Tensor | None, width: int, rope_first: bool
) -> tuple[Prepared, Prepared]:
    """Of queries, which carry the scale of the scores, and keys."""
    q, k = (None if weight is None else weight.detach().float() for weight in (q_weight, k_weight))
    return Prepared(q, width**-0.5, rope_first), Prepared(k, 1.0, rope_first)


def _flash(
    queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
) -> tuple[Float[Tensor, "b h l d"], Float[Tensor, "b h l"]]:
    """Attention of queries that are already scaled, and the logarithm of each query's sum."""
    mixed, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, keys, values, attn_mask=bias, scale=1.0
    )
    return mixed, sums


def _attention_backward(
    queries: Float[Tensor, "n l d"],
    keys: Float[Tensor, "n m d"],
    values: Float[Tensor, "n m d"],
    sums: Float[Tensor, "n l 1"],
    out: Float[Tensor, "n l d"],
    grad: Float[Tensor, "n l d"],
    bias: Float[Tensor, "1 m"] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, a few rows of scores at a time."""
    count, length, _ = queries.shape
    rows = _rows(count * keys.shape[1])
    grad_keys, grad_values = (torch.zeros(part.shape, dtype=part.dtype) for part in (keys, values))
    inner = []
    for start in range(0, length, rows):
        part = slice(start, start + rows)
        q, g = queries[:, part], grad[:, part]
        scores = torch.bmm(q, keys.mT)
        scores = scores if bias is None else scores.add_(bias)
        slope = torch.bmm(g, values.mT)
        if q.dtype == torch.float32:
            share = scores.sub_(sums[:, part]).exp_()
            slope.sub_((g * out[:, part]).sum(-1, keepdim=True)).mul_(share)
        else:  # these two kernels are float32 inside: nothing is converted in memory
            share = scores.softmax(-1)
            slope = torch._softmax_backward_data(slope, share, -1, share.dtype)
        grad_values.baddbmm_(share.mT, g)
        grad_keys.baddbmm_(slope.mT, q)
        inner.append(torch.bmm(slope, keys))
    return inner[0] if len(inner) == 1 else torch.cat(inner, 1), grad_keys, grad_values


def _rows(scores: int) -> int:
    """A power of two of rows with `scores` numbers each."""
    fitting: int = 2 ** max(4, (_SCORES_IN_CACHE // scores).bit_length() - 1)
    return fitting


def cross_attention(
    queries: Float[Tensor, "b l n"],
    keys: Float[Tensor, "b h m d"],
    values: Float[Tensor, "b h m d"],
    mask: Bool[Tensor, "b 1 1 m"] | None,
) -> Float[Tensor, "b l n"]:
    """From every query to the same few keys and values."""
    out: Tensor = _CrossAttention.apply(queries, keys, values, mask)  # type: ignore[no-untyped-call]
    return out


class _CrossAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        heads, width = keys.shape[1], keys.shape[3]
        keys = keys * width**-0.5
        bias = None if mask is None else torch.zeros(mask.shape).masked_fill_(~mask, float("-inf"))
        split = rearrange(queries, "b l (h d) -> b h l d", h=heads)
        mixed, sums = _flash(split, keys, values, None if bias is None else bias.to(queries.dtype))
        out = rearrange(mixed, "b h l d -> b l (h d)").contiguous()
        ctx.save_for_backward(queries, keys, values, bias, out, sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, bias, out, sums = ctx.saved_tensors
        heads, width = keys.shape[1], keys.shape[3]
        sums = sums.clamp_min(torch.finfo(torch.float32).min)[..., None]
        grad_queries, grad_keys, grad_values = (torch.empty_like(part) for part in (queries, keys, values))
        for b in range(len(queries)):
            q, o, g = (rearrange(part[b], "l (h d) -> h l d", h=heads) for part in (queries, out, grad))
            inner, grad_keys[b], grad_values[b] = _attention_backward(
                q, keys[b], values[b], sums[b], o, g, None if bias is None else bias[b, 0]
            )
            grad_queries[b] = rearrange(inner, "h l d -> l (h d)")
        return grad_queries, grad_keys * width**-0.5, grad_values, None
