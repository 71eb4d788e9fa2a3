"""Attention over space, over time, and from the video to its text. Tokens are kept as `b t s d`."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.nn import fused, fused_attention
from kinema.nn.layers import RMSNorm, turn_pairs
from kinema.nn.products import Linear

Angles = fused_attention.Angles
KeysValues = tuple[Tensor, Tensor]
FEW_KEYS = 512
"""Below, the backward pass of the CPU's attention is two to five times slower in bfloat16 than in float32."""


def attend(
    queries: Float[Tensor, "*n l d"],
    keys: Float[Tensor, "*n m d"],
    values: Float[Tensor, "*n m d"],
    key_mask: Bool[Tensor, "*n #l m"] | None = None,
) -> Float[Tensor, "*n l d"]:
    """Scaled dot-product attention to the keys where `key_mask` is True, in the precision that is faster."""
    device, dtype = queries.device.type, values.dtype
    slow = device == "cpu" and dtype == torch.bfloat16 and keys.shape[-2] < FEW_KEYS
    if not (slow and torch.is_grad_enabled()):
        return F.scaled_dot_product_attention(queries, keys, values, attn_mask=key_mask)
    with torch.autocast(device, enabled=False):
        out = F.scaled_dot_product_attention(
            queries.float(), keys.float(), values.float(), attn_mask=key_mask
        )
        return out.to(dtype)


class SelfAttention(nn.Module):
    """Within each frame (`angles` None), or along time at each place (`angles` given).

    Within a frame, `places` turns queries and keys by the angles of their row and column: `s pairs`, or
    `b s pairs` where those of each clip are its own.

    `rope_first` is the published order: rotation, then the norm of queries and keys. Because that norm has
    a weight per channel it breaks the rotation's relative positions, so new networks norm first.
    """

    def __init__(self, width: int, heads: int, *, qk_norm: bool, rope_first: bool) -> None:
        super().__init__()
        self.heads = heads
        self.rope_first = rope_first
        self.qkv = Linear(width, 3 * width)
        self.q_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(width // heads) if qk_norm else nn.Identity()
        self.proj = Linear(width, width)

    def forward(
        self, tokens: Float[Tensor, "b t s d"], angles: Angles | None, places: Angles | None = None
    ) -> Float[Tensor, "b t s d"]:
        qkv = self.qkv(tokens)
        alike = places is None or places[0].ndim == 2
        mixed = (self._mix_fused if alike and fused.applies(tokens) else self._mix)(qkv, angles, places)
        out: Tensor = self.proj(mixed)
        return out

    def _mix_fused(
        self, qkv: Float[Tensor, "b t s n"], angles: Angles | None, places: Angles | None
    ) -> Float[Tensor, "b t s d"]:
        norms = (self.q_norm, self.k_norm)
        weights = [norm.weight for norm in norms if isinstance(norm, RMSNorm)]
        pair = (weights[0], weights[1]) if weights else None
        along_time = angles is not None
        return fused_attention.attention(
            qkv, self.heads, pair, angles or places, along_time=along_time, rope_first=self.rope_first
        )

    def _mix(
        self, qkv: Float[Tensor, "b t s n"], angles: Angles | None, places: Angles | None
    ) -> Float[Tensor, "b t s d"]:
        queries, keys, values = rearrange(qkv, "b t s (n h d) -> n b t s h d", n=3, h=self.heads).unbind(0)
        turns: Angles | None
        if angles is not None:
            turns = _spread(angles, "t pairs -> t 1 1 pairs")
        else:
            turns = None if places is None else _spread(places, "... s pairs -> ... 1 s 1 pairs")
        queries = self._prepare(queries, self.q_norm, turns).to(values.dtype)
        keys = self._prepare(keys, self.k_norm, turns).to(values.dtype)
        attend = _attend_space if angles is None else _attend_time
        return attend(queries, keys, values)

    def _prepare(self, values: Tensor, norm: nn.Module, angles: Angles | None) -> Tensor:
        if angles is None:
            prepared: Tensor = norm(values)
        elif self.rope_first:
            prepared = norm(turn_pairs(values, *angles))
        else:
            prepared = turn_pairs(norm(values), *angles)
        return prepared


def _spread(angles: Angles, pattern: str) -> Angles:
    cosines, sines = (rearrange(part, pattern) for part in angles)
    return cosines, sines


def _attend_space(queries: Tensor, keys: Tensor, values: Tensor) -> Float[Tensor, "b t s d"]:
    q, k, v = (rearrange(part, "b t s h d -> (b t) h s d") for part in (queries, keys, values))
    mixed = attend(q, k, v)
    return rearrange(mixed, "(b t) h s d -> b t s (h d)", b=len(queries))


def _attend_time(queries: Tensor, keys: Tensor, values: Tensor) -> Float[Tensor, "b t s d"]:
    # Places and heads share one axis, so contiguous queries and keys need no copy.
    q, k, v = (rearrange(part, "b t s h d -> b (s h) t d") for part in (queries, keys, values))
    mixed = attend(q, k, v)
    return rearrange(mixed, "b (s h) t d -> b t s (h d)", h=queries.shape[3])


class CrossAttention(nn.Module):
    """From every video token to the words of its own caption."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = Linear(width, width)
        self.kv_linear = Linear(width, 2 * width)
        self.proj = Linear(width, width)

    def keys_values(self, words: Float[Tensor, "b l d"]) -> KeysValues:
        """What the words contribute: it depends on nothing else, so a sampler needs it once per prompt."""
        keys, values = rearrange(self.kv_linear(words), "b l (n h d) -> n b h l d", n=2, h=self.heads)
        return keys, values

    def forward(
        self,
        tokens: Float[Tensor, "b t s d"],
        keys_values: KeysValues,
        word_mask: Bool[Tensor, "b 1 1 l"] | None,
    ) -> Float[Tensor, "b t s d"]:
        queries = self.q_linear(tokens)
        if fused.applies(tokens):
            mixed = fused_attention.cross_attention(queries.flatten(1, 2), *keys_values, word_mask).reshape(
                queries.shape
            )
        else:
            split = rearrange(queries, "b t s (h d) -> b h (t s) d", h=self.heads)
            mixed = attend(split, *keys_values, word_mask)
            mixed = rearrange(mixed, "b h (t s) d -> b t s (h d)", t=tokens.shape[1])
        out: Tensor = self.proj(mixed)
        return out
