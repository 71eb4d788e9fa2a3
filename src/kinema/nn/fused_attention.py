"""Attention for the CPU, with its backward pass written out.

It keeps fewer tensors for the backward pass than the plain form and works through memory in pieces that stay
in the cache of a core; softmax and rotations are float32 whatever the inputs are.
"""
# ruff: noqa: ANN401, PLR0913, PLR0917 (an autograd function has an untyped context and positional arguments)

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from kinema.nn import products

EPS = 1e-6
_SCORES_IN_CACHE = 2**19
"""Of one core; the threads work on a piece together."""
_LONG = 256
_LARGE = 2**25
"""Multiplications of one matrix of scores below which two threads gain nothing from oneDNN."""
_AMX = torch.cpu._is_amx_tile_supported()

Angles = tuple[Tensor, Tensor]


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


def _scores_at_once() -> int:
    return _SCORES_IN_CACHE * torch.get_num_threads()


def _groups(qkv: Float[Tensor, "b t s n"], heads: int, along_time: bool) -> list[tuple[int | slice, ...]]:
    """Pieces of `b t s` that no attention crosses and that fit a cache: some frames, or some places."""
    clips, frames, places, width = qkv.shape
    if not along_time:
        size = max(1, _scores_at_once() // (heads * places**2))
        return [(b, slice(t, t + size)) for b in range(clips) for t in range(0, frames, size)]
    size = max(1, _scores_at_once() // (2 * frames * max(frames * heads, width // 3)))
    return [(b, slice(None), slice(s, s + size)) for b in range(clips) for s in range(0, places, size)]


def _batched(values: Float[Tensor, "t s h d"], along_time: bool) -> Float[Tensor, "n l d"]:
    """One matrix for each head and place, or frame; strides of whole frames are too long to compute on."""
    if along_time:
        return rearrange(values, "t s h d -> (s h) t d").contiguous()
    return rearrange(values, "t s h d -> (t h) s d")


def _frames(values: Float[Tensor, "n l d"], along_time: bool, heads: int) -> Float[Tensor, "t s h d"]:
    return rearrange(values, "(s h) t d -> t s h d" if along_time else "(t h) s d -> t s h d", h=heads)


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
        ctx.groups = _groups(qkv, heads, along_time)
        for where in ctx.groups:
            *plain, values = (_batched(part[where], along_time) for part in parts)
            made = [_prepare(p.float(), how, rotation) for p, how in zip(plain, ways, strict=True)]
            queries, keys = (part.to(qkv.dtype) for part in made)
            mixed, row = _attention(queries, keys, values, None)
            out[where] = _frames(mixed, along_time, heads)
            sums.append(row)
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
        for where, row in zip(ctx.groups, sums, strict=True):
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


def applies(queries: Float[Tensor, "*n l d"], keys: Float[Tensor, "*n m d"]) -> bool:
    """Whether `attend` is faster than PyTorch's attention."""
    plain = torch.compiler.is_compiling() or queries.device.type != "cpu"
    first = (0,) * (queries.ndim - 2)
    return not plain and products_pay(queries[first], keys[first])


def attend(
    queries: Float[Tensor, "n l d"], keys: Float[Tensor, "n m d"], values: Float[Tensor, "n m d"]
) -> Float[Tensor, "n l d"]:
    """Scaled dot-product attention of matrices that have nothing to do with each other."""
    out: Tensor = _Attend.apply(queries * queries.shape[-1] ** -0.5, keys, values)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        out, sums = _attention(queries, keys, values, None)
        ctx.save_for_backward(queries, keys, values, sums, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values, sums, out = ctx.saved_tensors
        return _attention_backward(queries, keys, values, sums, out, grad.contiguous(), None)


def products_pay(queries: Float[Tensor, "l d"], keys: Float[Tensor, "m d"]) -> bool:
    """Whether plain products and a softmax are faster than the fused kernel, forwards and backwards.

    Its products are MKL's in float32, and in bfloat16 fast only with AMX.
    """
    if queries.dtype == torch.bfloat16:
        return not _AMX
    large = len(queries) * len(keys) * queries.shape[-1] >= _LARGE
    return large and products.applies(queries, keys.T)


def _pieces(queries: Tensor, keys: Tensor) -> list[tuple[slice, slice]]:
    """Matrices and rows whose scores fit a cache; oneDNN takes float32 one matrix at a time."""
    count, length, _ = queries.shape
    step = 1 if queries.dtype == torch.float32 and products_pay(queries[0], keys[0]) else count
    rows = 2 ** max(4, (_scores_at_once() // (step * keys.shape[1])).bit_length() - 1)
    return [
        (slice(n, n + step), slice(row, row + rows))
        for n in range(0, count, step)
        for row in range(0, length, rows)
    ]


def _attention(
    queries: Float[Tensor, "n l d"],
    keys: Float[Tensor, "n m d"],
    values: Float[Tensor, "n m d"],
    bias: Float[Tensor, "1 m"] | None,
) -> tuple[Float[Tensor, "n l d"], Tensor | None]:
    """Of queries that are already scaled; the fused kernel tells the logarithm of each one's sum besides."""
    if not products_pay(queries[0], keys[0]):
        mask = None if bias is None else bias[None, None]
        mixed, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            queries[None], keys[None], values[None], attn_mask=mask, scale=1.0
        )
        return mixed[0], sums[0, ..., None].clamp_min(torch.finfo(torch.float32).min)
    out = torch.empty_like(queries)
    with torch.autocast("cpu", enabled=False):
        for n, part in _pieces(queries, keys):
            scores = products.bmm(queries[n, part], keys[n].mT)
            scores = scores if bias is None else scores.add_(bias)
            out[n, part] = products.bmm(_exact(scores).softmax(-1).to(values.dtype), values[n])
    return out, None


def _exact(scores: Float[Tensor, "n l m"]) -> Float[Tensor, "n l m"]:
    """As the softmax wants them: its kernels are float32 inside, and slow on short rows of bfloat16."""
    return scores.float() if scores.shape[-1] < _LONG else scores


def _attention_backward(
    queries: Float[Tensor, "n l d"],
    keys: Float[Tensor, "n m d"],
    values: Float[Tensor, "n m d"],
    sums: Float[Tensor, "n l 1"] | None,
    out: Float[Tensor, "n l d"],
    grad: Float[Tensor, "n l d"],
    bias: Float[Tensor, "1 m"] | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values, a few rows of scores at a time."""
    grad_keys, grad_values = (torch.zeros(part.shape, dtype=part.dtype) for part in (keys, values))
    inner = torch.empty(queries.shape, dtype=queries.dtype)
    for n, part in _pieces(queries, keys):
        q, g = queries[n, part], grad[n, part]
        scores = products.bmm(q, keys[n].mT)
        scores = scores if bias is None else scores.add_(bias)
        slope = products.bmm(g, values[n].mT)
        if sums is not None and q.dtype == torch.float32:
            share = scores.sub_(sums[n, part]).exp_()
            slope.sub_((g * out[n, part]).sum(-1, keepdim=True)).mul_(share)
        else:
            share = _exact(scores).softmax(-1)
            slope = torch._softmax_backward_data(_exact(slope), share, -1, share.dtype).to(q.dtype)
            share = share.to(q.dtype)
        products.add_bmm(grad_values[n], share.mT, g)
        products.add_bmm(grad_keys[n], slope.mT, q)
        inner[n, part] = products.bmm(slope, keys[n])
    return inner, grad_keys, grad_values


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
        bias = None if bias is None else bias.to(queries.dtype)
        out, sums = torch.empty_like(queries), []
        for b, rows in enumerate(queries):
            split = rearrange(rows, "l (h d) -> h l d", h=heads)
            mixed, row = _attention(split, keys[b], values[b], None if bias is None else bias[b, 0])
            out[b] = rearrange(mixed, "h l d -> l (h d)")
            sums.append(row)
        ctx.save_for_backward(queries, keys, values, bias, out, *sums)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, bias, out, *sums = ctx.saved_tensors
        heads, width = keys.shape[1], keys.shape[3]
        grad_queries, grad_keys, grad_values = (torch.empty_like(part) for part in (queries, keys, values))
        for b in range(len(queries)):
            q, o, g = (rearrange(part[b], "l (h d) -> h l d", h=heads) for part in (queries, out, grad))
            inner, grad_keys[b], grad_values[b] = _attention_backward(
                q, keys[b], values[b], sums[b], o, g, None if bias is None else bias[b, 0]
            )
            grad_queries[b] = rearrange(inner, "h l d -> l (h d)")
        return grad_queries, grad_keys * width**-0.5, grad_values, None
