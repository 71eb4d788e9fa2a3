"""The blocks of the video UNet: every spatial layer is followed by a temporal one and a learned mix.

Features travel as `(b t) c h w` in channels-last memory, so that tokens, frames and temporal
convolutions are views of one buffer. Module names are those of diffusers' spatio-temporal UNet.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kinema.nn import fused_attention
from kinema.nn.lean import geglu_residual, group_norm_silu, layer_norm_linear, temporal_conv
from kinema.nn.lora import learning
from kinema.nn.products import Linear


@dataclass(frozen=True, kw_only=True)
class FrameContext:
    """What every block of one forward pass shares.

    `embedding` is the SiLU of noise level plus micro-conditioning. `image_only` is None when every frame
    belongs to a video; a frame flagged in it passes the temporal layers by. `all_images`: every frame is
    flagged, and the temporal layers are not computed.
    """

    frames: int
    embedding: Float[Tensor, "bt d"]
    tokens: Float[Tensor, "b l d"] | Float[Tensor, "b t l d"]
    image_only: Bool[Tensor, "b t"] | None = None
    all_images: bool = False


def image_layout(features: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h w"]:
    """The memory order for 3x3 convolutions: an image network's in float32 on the CPU, else channels-last.

    The channels-last kernel of the CPU adds all channels * 9 products in one chain; its rounding error grows
    with the width (2.5e-6 of the largest value at 320 channels) where the other kernel stays at 3e-7.
    """
    exact = features.device.type == "cpu" and features.dtype == torch.float32
    return features.contiguous() if exact else frame_layout(features)


def frame_layout(features: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h w"]:
    """Channels-last: tokens and frames are views."""
    return features.contiguous(memory_format=torch.channels_last)


def touched(output: Tensor, *unused: nn.Module) -> Tensor:
    """`output`, with gradient zero, not none, for the unused modules, as data-parallel reducers expect."""
    if not torch.is_grad_enabled():
        return output
    weights = [weight for module in unused for weight in learning(module)]
    return output + sum(0.0 * weight.reshape(-1)[0] for weight in weights)


def sinusoid(values: Tensor, width: int) -> Tensor:
    """Cosine half first, frequencies 10000^(-i / (width / 2)); float32 `... -> ... width`."""
    half = width // 2
    # In this order of operations: a timestep of 700 magnifies the last bit of a frequency.
    exponents = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device)
    frequencies = torch.exp(exponents / half)
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class EmbeddingMLP(nn.Module):
    """Linear, SiLU, linear."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.linear_1 = Linear(width, hidden)
        self.linear_2 = Linear(hidden, out)

    def forward(self, embedding: Tensor) -> Tensor:
        """Of any leading shape."""
        hidden = functional.silu(self.linear_1(embedding.to(self.linear_1.weight.dtype)))
        return self.linear_2(hidden)  # type: ignore[no-any-return]


class TimeMixer(nn.Module):
    """The learned share of the spatial branch: sigmoid(mix_factor), or 1 on image-only frames."""

    def __init__(self, mix_factor: float = 0.5) -> None:
        super().__init__()
        self.mix_factor = nn.Parameter(torch.tensor([mix_factor]))

    def temporal_share(self, context: FrameContext, dtype: torch.dtype) -> Tensor:
        """1 - share of the spatial branch: shape 1, or `(b t) 1 1` when some frames are image-only."""
        share: Tensor = torch.sigmoid(-self.mix_factor).to(dtype)
        if context.image_only is None:
            return share
        return share * rearrange(~context.image_only, "b t -> (b t) 1 1").to(dtype)


class SpatialResBlock(nn.Module):
    """GroupNorm-SiLU-conv twice with the embedding added between, and a residual."""

    def __init__(self, channels: int, out_channels: int, embedding: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, channels, eps=eps)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.time_emb_proj = Linear(embedding, out_channels)
        self.norm2 = nn.GroupNorm(32, out_channels, eps=eps)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else None

    def forward(self, features: Float[Tensor, "bt c h w"], embedding: Tensor) -> Float[Tensor, "bt o h w"]:
        hidden = self.conv1(group_norm_silu(features, self.norm1))
        hidden = hidden + self.time_emb_proj(embedding)[:, :, None, None]
        hidden = self.conv2(group_norm_silu(hidden, self.norm2))
        residual: Tensor = features if self.conv_shortcut is None else self.conv_shortcut(features)
        output: Tensor = residual + hidden
        return output


class TemporalResBlock(nn.Module):
    """The same over time: (3, 1, 1) convolutions, norms over all frames of a clip. No residual inside."""

    def __init__(self, channels: int, embedding: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(32, channels, eps=eps)
        self.conv1 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))
        self.time_emb_proj = Linear(embedding, channels)
        self.norm2 = nn.GroupNorm(32, channels, eps=eps)
        self.conv2 = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0))

    def forward(
        self, features: Float[Tensor, "bt c h w"], context: FrameContext, share: Tensor
    ) -> Float[Tensor, "bt c h w"]:
        """`features` + share * residual: the mix of the branches, as both contain `features`."""
        frames = context.frames
        assert self.conv1.bias is not None
        hidden = temporal_conv(
            group_norm_silu(features, self.norm1, frames=frames), self.conv1.weight, self.conv1.bias, frames
        )
        hidden = hidden + self.time_emb_proj(context.embedding)[:, :, None, None]
        hidden = group_norm_silu(hidden, self.norm2, frames=frames)
        weight, bias = self.conv2.weight, self.conv2.bias
        assert bias is not None
        if (
            context.image_only is None
        ):  # a single share scales the weights, which are smaller than the features
            return features + temporal_conv(hidden, weight * share, bias * share, frames)
        return features + share[..., None] * temporal_conv(hidden, weight, bias, frames)


class SpatioTemporalResBlock(nn.Module):
    """A spatial residual block, then a temporal one, mixed."""

    def __init__(self, channels: int, out_channels: int, embedding: int, eps: float) -> None:
        super().__init__()
        self.spatial_res_block = SpatialResBlock(channels, out_channels, embedding, eps)
        self.temporal_res_block = TemporalResBlock(out_channels, embedding, eps)
        self.time_mixer = TimeMixer()

    def forward(
        self, features: Float[Tensor, "bt c h w"], context: FrameContext
    ) -> Float[Tensor, "bt o h w"]:
        spatial = frame_layout(self.spatial_res_block(image_layout(features), context.embedding))
        if context.all_images:
            return touched(spatial, self.temporal_res_block, self.time_mixer)
        share = self.time_mixer.temporal_share(context, spatial.dtype)
        mixed: Tensor = self.temporal_res_block(spatial, context, share)
        return mixed


class FeedForward(nn.Module):
    """GEGLU: keys `net.0.proj`, `net.2`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        gate = nn.Module()
        gate.proj = Linear(width, 8 * width)
        self.net = nn.ModuleList([gate, nn.Identity(), Linear(4 * width, width)])

    def residual(self, tokens: Float[Tensor, "*n d"], norm: nn.LayerNorm) -> Float[Tensor, "*n d"]:
        """tokens + feed-forward(norm(tokens))."""
        proj, out = self.net[0].proj, self.net[2]
        assert isinstance(proj, nn.Module)
        return geglu_residual(tokens, norm, proj, out)


class Attention(nn.Module):
    """Multi-head attention without biases on q, k and v: keys `to_q, to_k, to_v, to_out.0`."""

    def __init__(self, width: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = Linear(width, width, bias=False)
        self.to_k = Linear(context or width, width, bias=False)
        self.to_v = Linear(context or width, width, bias=False)
        self.to_out = nn.ModuleList([Linear(width, width), nn.Identity()])

    def within(
        self, tokens: Float[Tensor, "b t s d"], norm: nn.LayerNorm, over_time: bool
    ) -> Float[Tensor, "b t s d"]:
        """Self-attention over the places of a frame, or over the frames of a place."""
        q, k, v = layer_norm_linear(tokens, norm, (self.to_q, self.to_k, self.to_v))
        pattern = "b t s (h d) -> b s h t d" if over_time else "b t s (h d) -> b t h s d"
        q, k, v = (rearrange(part, pattern, h=self.heads) for part in (q, k, v))
        attended = attend_short(q, k, v) if over_time and q.shape[-2] <= 32 else attend(q, k, v)
        merge = "b s h t d -> b t s (h d)" if over_time else "b t h s d -> b t s (h d)"
        return self.to_out[0](rearrange(attended, merge))  # type: ignore[no-any-return]

    def across(
        self, tokens: Float[Tensor, "b t s d"], norm: nn.LayerNorm, context: Float[Tensor, "b t l e"]
    ) -> Float[Tensor, "b t s d"]:
        """Cross-attention of all places; the context's t is 1 (one for the clip) or the number of frames."""
        if context.shape[2] == 1:
            return self._single_token(norm, context)
        places = tokens.shape[2]
        q = rearrange(self.to_q(norm(tokens)), "b t s (h d) -> b t h s d", h=self.heads)
        k, v = (
            rearrange(part, "b t l (h d) -> b t h l d", h=self.heads)
            for part in (self.to_k(context), self.to_v(context))
        )
        if context.shape[1] == 1:  # one context: all frames of a clip are one long sequence of queries
            q = rearrange(q, "b t h s d -> b 1 h (t s) d")
            attended = rearrange(attend(q, k, v), "b 1 h (t s) d -> b t s (h d)", s=places)
        else:
            attended = rearrange(attend(q, k, v), "b t h s d -> b t s (h d)")
        return self.to_out[0](attended)  # type: ignore[no-any-return]

    def _single_token(
        self, norm: nn.LayerNorm, context: Float[Tensor, "b t 1 e"]
    ) -> Float[Tensor, "b t 1 d"]:
        """The softmax over one key is 1: the value is the answer at every place, whatever the query.

        The query's weights then have gradient zero.
        """
        value = self.to_v(context)
        value = touched(value, norm, self.to_q, self.to_k)
        return self.to_out[0](value)  # type: ignore[no-any-return]


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Scaled dot-product attention with two leading batch axes."""
    if fused_attention.applies(q, k):
        matrices = fused_attention.attend(*(part.flatten(0, 2) for part in (q, k, v)))
        return matrices.reshape(*q.shape[:3], *matrices.shape[1:])
    flat_q, flat_k, flat_v = (part.flatten(0, 1) for part in (q, k, v))
    attended = functional.scaled_dot_product_attention(flat_q, flat_k, flat_v)
    return attended.reshape(*q.shape[:2], *attended.shape[1:])


def attend_short(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same for a few frames: batched products, as fused kernels are slow on very short sequences."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul(scores.softmax(dim=-1), v)


class SpatialBlock(nn.Module):
    """Self-attention within a frame, cross-attention to the context, feed-forward."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(self, tokens: Float[Tensor, "b t s d"], context: Tensor) -> Float[Tensor, "b t s d"]:
        tokens = tokens + self.attn1.within(tokens, self.norm1, over_time=False)
        tokens = tokens + self.attn2.across(tokens, self.norm2, context)
        return self.ff.residual(tokens, self.norm3)


class TemporalBlock(nn.Module):
    """Feed-forward, self-attention over frames, cross-attention, feed-forward."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.ff_in = FeedForward(width)
        self.norm1 = nn.LayerNorm(width)
        self.attn1 = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.attn2 = Attention(width, heads, context)
        self.norm3 = nn.LayerNorm(width)
        self.ff = FeedForward(width)

    def forward(
        self, tokens: Float[Tensor, "b t s d"], positions: Float[Tensor, "t 1 d"], context: Tensor
    ) -> Float[Tensor, "b t s d"]:
        tokens = self.ff_in.residual(tokens + positions, self.norm_in)
        tokens = tokens + self.attn1.within(tokens, self.norm1, over_time=True)
        tokens = tokens + self.attn2.across(tokens, self.norm2, context)
        return self.ff.residual(tokens, self.norm3)


class SpatioTemporalTransformer(nn.Module):
    """Each spatial block is followed by a temporal one on tokens that know their frame's index."""

    def __init__(self, width: int, heads: int, context: int, depth: int) -> None:
        super().__init__()
        self.checkpointing = False
        self.norm = nn.GroupNorm(32, width, eps=1e-6)
        self.proj_in = Linear(width, width)
        self.transformer_blocks = nn.ModuleList(SpatialBlock(width, heads, context) for _ in range(depth))
        self.temporal_transformer_blocks = nn.ModuleList(
            TemporalBlock(width, heads, context) for _ in range(depth)
        )
        self.time_pos_embed = EmbeddingMLP(width, 4 * width, width)
        self.time_mixer = TimeMixer()
        self.proj_out = Linear(width, width)

    def forward(
        self, features: Float[Tensor, "bt c h w"], context: FrameContext
    ) -> Float[Tensor, "bt c h w"]:
        height = features.shape[2]
        tokens = rearrange(self.norm(features), "(b t) c h w -> b t (h w) c", t=context.frames)
        tokens = self.proj_in(tokens)
        per_frame = context.tokens if context.tokens.ndim == 4 else context.tokens[:, None]
        if context.all_images:
            tokens = self._images(tokens, per_frame)
        else:
            tokens = self._video(tokens, per_frame, context)
        residual: Tensor = rearrange(self.proj_out(tokens), "b t (h w) c -> (b t) c h w", h=height)
        return features + residual

    def _images(self, tokens: Float[Tensor, "b t s d"], per_frame: Tensor) -> Float[Tensor, "b t s d"]:
        for spatial in self.transformer_blocks:
            tokens = self._run(spatial, tokens, per_frame)
        return touched(tokens, self.temporal_transformer_blocks, self.time_pos_embed, self.time_mixer)

    def _video(
        self, tokens: Float[Tensor, "b t s d"], per_frame: Tensor, context: FrameContext
    ) -> Float[Tensor, "b t s d"]:
        positions = sinusoid(torch.arange(context.frames, device=tokens.device), tokens.shape[-1])
        positions = self.time_pos_embed(positions)[:, None]
        share = self.time_mixer.temporal_share(context, tokens.dtype)
        if context.image_only is not None:
            share = rearrange(share, "(b t) s c -> b t s c", t=context.frames)
        for spatial, temporal in zip(self.transformer_blocks, self.temporal_transformer_blocks, strict=True):
            tokens = self._run(spatial, tokens, per_frame)
            # The temporal layers see the context of the first frame, as published.
            moved = self._run(temporal, tokens, positions, per_frame[:, :1])
            tokens = torch.lerp(tokens, moved, share)
        return tokens

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        return run(block, *inputs, checkpointing=self.checkpointing)


def run(block: Callable[..., Tensor], *inputs: object, checkpointing: bool) -> Tensor:
    """The block's output; its activations are computed again in the backward pass when checkpointing."""
    if checkpointing and torch.is_grad_enabled():
        output: Tensor = checkpoint(block, *inputs, use_reentrant=False)
        return output
    return block(*inputs)


class Downsample(nn.Module):
    """A strided convolution within each frame."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, features: Float[Tensor, "bt c h w"]) -> Float[Tensor, "bt c h2 w2"]:
        return frame_layout(self.conv(image_layout(features)))


class Upsample(nn.Module):
    """Nearest neighbours to the size of the skip connection to come, then a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Float[Tensor, "bt c h w"], size: torch.Size) -> Float[Tensor, "bt c h2 w2"]:
        larger = functional.interpolate(image_layout(features), size=size, mode="nearest")
        return frame_layout(self.conv(larger))
