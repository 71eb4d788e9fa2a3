"""ST-DiT-2 written down straightforwardly, on the weights of `STDiT2`: the peer of the careful form.

As the published implementation does, it multiplies with PyTorch's own layers (`plain_layers`), materialises
the scores of self-attention, modulates everything twice when frames are given, and projects the text anew in
every forward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.nn import Conditioning, STDiT2
from kinema.nn.attention import Angles, SelfAttention
from kinema.nn.layers import rotate
from kinema.nn.products import Linear
from kinema.nn.stdit2 import Block, Modulations


@dataclass(frozen=True)
class Steering:
    """Vectors of generated and of given frames."""

    noised: Modulations
    given: Modulations
    denoise_mask: Bool[Tensor, "b t 1 1"] | None

    def choose(self, apply: Callable[[Modulations], Tensor]) -> Tensor:
        """Compute for generated frames, and again for given ones; then select."""
        noised = apply(self.noised)
        if self.denoise_mask is None:
            return noised
        return torch.where(self.denoise_mask, noised, apply(self.given))


def plain_layers(network: STDiT2) -> STDiT2:
    """The network itself, its linear layers now PyTorch's own."""
    for part in network.modules():
        if type(part) is Linear:
            part.__class__ = nn.Linear  # type: ignore[assignment]
    return network


def naive_forward(
    network: STDiT2,
    latents: Float[Tensor, "b c t h w"],
    timestep: Float[Tensor, " b"],
    conditioning: Conditioning,
    denoise_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, "b out t h w"]:
    """What `network` computes."""
    mask = None if denoise_mask is None else denoise_mask[:, :, None, None]
    noised = network.modulations(timestep, conditioning, None)
    steering = Steering(noised, network.modulations(torch.zeros_like(timestep), conditioning, None), mask)
    words = network.y_embedder(conditioning.tokens)
    word_mask = None if conditioning.token_mask is None else conditioning.token_mask[:, None, None]
    tokens = network.x_embedder(latents)
    tokens = tokens + network.positions(latents, conditioning)[:, None].to(tokens.dtype)
    angles = network.rope(tokens.shape[1])
    for block in network._blocks():
        tokens = _block(block, tokens, steering, angles, words, word_mask)
    table = network.final_layer.scale_shift_table

    def finish(vectors: Modulations) -> Tensor:
        shift, scale = (table + vectors.final[:, :, None])[:, :, None].unbind(3)
        return _modulate(tokens, shift, scale)

    return network._unpatchify(network.final_layer.linear(steering.choose(finish)), latents).float()


def _block(  # noqa: PLR0913, PLR0917 (as the block it stands for)
    block: Block,
    tokens: Tensor,
    steering: Steering,
    angles: Angles,
    words: Tensor,
    word_mask: Tensor | None,
) -> Tensor:
    def space(vectors: Modulations, row: int) -> Tensor:
        return (block.scale_shift_table[row] + vectors.space[:, :, row])[:, :, None]

    def time(vectors: Modulations, row: int) -> Tensor:
        return (block.scale_shift_table_temporal[row] + vectors.time[:, :, row])[:, :, None]

    start = tokens
    mixed = _attend(block.attn, steering.choose(lambda v: _modulate(start, space(v, 0), space(v, 1))), None)
    tokens = start + steering.choose(lambda v: space(v, 2) * mixed)
    middle = tokens
    timed = steering.choose(lambda v: _modulate(middle, time(v, 0), time(v, 1)))
    timed = _attend(block.attn_temp, timed, angles)
    tokens = middle + steering.choose(lambda v: time(v, 2) * timed)
    tokens = tokens + _cross(block, tokens, words, word_mask)
    last = tokens
    fed = steering.choose(lambda v: _modulate(last, space(v, 3), space(v, 4)))
    fed = block.mlp.fc2(F.gelu(block.mlp.fc1(fed), approximate="tanh"))
    return last + steering.choose(lambda v: space(v, 5) * fed)


def _modulate(tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6) * (1 + scale) + shift


def _attend(module: SelfAttention, tokens: Tensor, angles: Angles | None) -> Tensor:
    """Every score in memory, the softmax in float32."""
    frames, places = tokens.shape[1:3]
    layout = "(b t) s d" if angles is None else "(b s) t d"
    rows = rearrange(tokens, f"b t s d -> {layout}").contiguous()
    queries, keys, values = rearrange(module.qkv(rows), "n l (k h d) -> k n h l d", k=3, h=module.heads)
    queries = _prepare(module.q_norm, queries, angles)
    keys = _prepare(module.k_norm, keys, angles)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    mixed = scores.float().softmax(-1).to(values.dtype) @ values.contiguous()
    out: Tensor = module.proj(rearrange(mixed, "n h l d -> n l (h d)"))
    return rearrange(out, f"{layout} -> b t s d", t=frames) if angles is None else _by_place(out, places)


def _by_place(rows: Tensor, places: int) -> Tensor:
    return rearrange(rows, "(b s) t d -> b t s d", s=places).contiguous()


def _prepare(norm: nn.Module, values: Float[Tensor, "n h l d"], angles: Angles | None) -> Tensor:
    if angles is None:
        plain: Tensor = norm(values)
        return plain.to(values.dtype).contiguous()
    turned = rotate(rearrange(norm(values), "n h l d -> n l 1 h d"), *angles)
    return rearrange(turned, "n l 1 h d -> n h l d").to(values.dtype).contiguous()


def _cross(block: Block, tokens: Tensor, words: Tensor, word_mask: Tensor | None) -> Tensor:
    attention, places = block.cross_attn, tokens.shape[2]
    queries = rearrange(attention.q_linear(tokens), "b t s (h d) -> b h (t s) d", h=attention.heads)
    mixed = F.scaled_dot_product_attention(queries, *attention.keys_values(words), attn_mask=word_mask)
    out: Tensor = attention.proj(rearrange(mixed, "b h (t s) d -> b t s (h d)", s=places))
    return out
