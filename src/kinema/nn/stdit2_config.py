"""Sizes and switches of ST-DiT-2."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class STDiT2Config:
    """Sizes of the network, and the three published behaviours that only the published weights need.

    `rope_first`: rotate queries and keys before their norm.
    `final_layer_published`: the last modulation of generated frames does not see the size of the picture,
    and given frames are modulated twice.
    `shared_position_scale`: the first element of a batch sets the scale of the positions for all.
    `images_skip_time`: single frames leave the attention over time out, so that training on images first
    costs less and leaves it the identity that it starts as.
    `spatial_rope`: attention within a frame turns queries and keys by row and column, beside the positions
    that are added to the tokens: a small network learns shapes sooner when a place is told relatively.
    `modulate_by_caption`: the mean of the caption's words joins the timestep in what steers the blocks,
    beside the attention to each word: it multiplies the tokens, where attention can only add to them.
    `frame_times`: each frame's tokens and modulations are told its time; attention knows only differences.
    `joint_time`: attention along time sees all places of all frames, so that one layer follows what moves;
    it costs the square of their number.
    `keeps_given`: places where a given frame before or after shows what is to be seen are taken from it, by a
    learned gate, in place of being made; for processes that predict clean latents.
    """

    kind: Literal["stdit2"] = "stdit2"
    depth: int = 28
    hidden: int = 1152
    heads: int = 16
    patch_size: tuple[int, int, int] = (1, 2, 2)
    in_channels: int = 4
    mlp_ratio: float = 4.0
    caption_channels: int = 4096
    max_tokens: int = 200
    input_sq_size: int = 512
    qk_norm: bool = True
    rope_first: bool = False
    learned_variance: bool = True
    caption_drop: float = 0.1
    final_layer_published: bool = False
    shared_position_scale: bool = False
    images_skip_time: bool = False
    spatial_rope: bool = False
    modulate_by_caption: bool = False
    frame_times: bool = False
    joint_time: bool = False
    keeps_given: bool = False

    def __post_init__(self) -> None:
        if self.hidden % 12:
            raise ValueError(f"hidden must be a multiple of 12, got {self.hidden}")
        if self.hidden % self.heads or self.hidden // self.heads % 2:
            raise ValueError(f"hidden / heads must be an even number, got {self.hidden} / {self.heads}")
        if self.spatial_rope and self.hidden // self.heads % 4:
            raise ValueError(f"spatial_rope needs hidden / heads in fours, got {self.hidden} / {self.heads}")
        if self.keeps_given and self.learned_variance:
            raise ValueError(
                "keeps_given is for networks that predict clean latents, without learned_variance"
            )
        if not 0 <= self.caption_drop <= 1:
            raise ValueError(f"caption_drop must be in [0, 1], got {self.caption_drop}")
        if min(self.depth, self.in_channels, self.max_tokens, *self.patch_size) < 1:
            raise ValueError("depth, in_channels, max_tokens and patch_size must be at least 1")

    @classmethod
    def xl2(cls) -> STDiT2Config:
        """The network of the weights published as OpenSora-STDiT-v2."""
        return cls(rope_first=True, final_layer_published=True, shared_position_scale=True)

    @property
    def out_channels(self) -> int:
        return self.in_channels * (2 if self.learned_variance else 1)
