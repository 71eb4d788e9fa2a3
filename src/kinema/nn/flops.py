"""Floating-point operations of a network: what plans, benchmarks and simulations reckon with."""

from __future__ import annotations

from dataclasses import dataclass

from kinema.nn.stdit2_config import STDiT2Config


@dataclass(frozen=True, kw_only=True)
class LatentShape:
    """The latents of one clip, in cells, and the words of its caption."""

    frames: int
    height: int
    width: int
    words: int


def forward_flops(config: STDiT2Config, shape: LatentShape) -> float:
    """Matrix products of one forward pass over one clip; a product of m by k by n counts 2 m k n.

    Per token and block: attention over space and over time 8 d^2 weights, text queries and output 2 d^2,
    feed-forward 2 mlp_ratio d^2; then the scores and mixtures of the three attentions, 4 d for each token
    that is looked at (all of the clip, over time, with `joint_time`). Element-wise work is left out.
    """
    pt, ph, pw = config.patch_size
    frames = -(-shape.frames // pt)
    places = -(-shape.height // ph) * -(-shape.width // pw)
    tokens, width = frames * places, config.hidden
    weights = (8 + 2 + 2 * config.mlp_ratio) * width**2
    looked_at = places + (tokens if config.joint_time else frames) + shape.words
    block = tokens * (2 * weights + 4 * width * looked_at) + shape.words * 4 * width**2
    patch = tokens * 2 * width * pt * ph * pw * (config.in_channels + config.out_channels)
    caption = shape.words * 2 * width * (config.caption_channels + width)
    return config.depth * block + patch + caption


def training_flops(config: STDiT2Config, shape: LatentShape) -> float:
    """Forward and backward: three times the forward pass (gradient checkpointing adds one more)."""
    return 3 * forward_flops(config, shape)


def kept_numbers(config: STDiT2Config, shape: LatentShape, *, checkpointing: bool = False) -> float:
    """Numbers of one clip that the forward pass keeps for the backward pass.

    Per token and block, in widths: each attention over space or time keeps its input, the modulated input,
    queries, keys and values, its mixture and its result (7); that to the text its input, queries and mixture
    (3); the feed-forward part input, modulated input, hidden layer before and after its activation, and
    result (3 + 2 mlp_ratio). With checkpointing a block keeps its input, and one block at a time all of it.
    """
    pt, ph, pw = config.patch_size
    tokens = -(-shape.frames // pt) * -(-shape.height // ph) * -(-shape.width // pw)
    block = tokens * config.hidden * (20 + 2 * config.mlp_ratio)
    return config.depth * tokens * config.hidden + block if checkpointing else config.depth * block
