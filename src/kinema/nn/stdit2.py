"""ST-DiT-2: a diffusion transformer that alternates attention over space, time and text.

The architecture and the names of its weights are those of Open-Sora 1.1 (https://github.com/hpcaitech/Open-Sora),
so that its published weights load as they are.
"""

from __future__ import annotations

from itertools import repeat
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kinema.nn.attention import Angles, CrossAttention, KeysValues, SelfAttention
from kinema.nn.conditioning import Conditioning, each
from kinema.nn.given import GivenGate, take_given
from kinema.nn.layers import (
    CaptionEmbedder,
    FrameTimes,
    Mlp,
    PatchEmbed,
    RotaryEmbedding,
    ScalarEmbedder,
    joint_angles,
    place_angles,
    position_embedding,
)
from kinema.nn.products import Linear
from kinema.nn.sequence import SequenceGroup
from kinema.nn.stdit2_config import STDiT2Config
from kinema.nn.steering import add_gated, modulate


class Modulations(NamedTuple):
    """Vectors that steer the blocks, per frame; t is 1 when no frame is given.

    `final_given` is for the published final layer alone, see `FinalLayer`.
    """

    space: Float[Tensor, "b t 6 d"]
    time: Float[Tensor, "b t 3 d"]
    final: Float[Tensor, "b t d"]
    final_given: Float[Tensor, "b 1 d"] | None = None
    denoise_mask: Bool[Tensor, "b t"] | None = None

    def first(self, rows: int) -> Modulations:
        """Those of the first rows, for the blocks."""
        return self._replace(space=self.space[:rows], time=self.time[:rows])

    def own(self, sequence: SequenceGroup) -> Modulations:
        """Those of the frames that a rank of a sequence group holds."""
        if self.space.shape[1] == 1:
            return self
        mask = None if self.denoise_mask is None else sequence.own(self.denoise_mask)
        space, time = sequence.own(self.space), sequence.own(self.time)
        final = self.final if self.final.shape[1] == 1 else sequence.own(self.final)
        return Modulations(space, time, final, self.final_given, mask)


class Block(nn.Module):
    """Space, time, text, feed-forward; each a residual, all but the text modulated per frame.

    `text` is the embedded caption, or the keys and values that `keys_values` makes of it. Where captions
    share tokens, one group of rows after the other, what comes before the text is computed once.
    """

    def __init__(self, config: STDiT2Config) -> None:
        super().__init__()
        self.sequence: SequenceGroup | None = None
        width, heads = config.hidden, config.heads
        self.scale_shift_table = nn.Parameter(torch.randn(6, width) / width**0.5)
        self.scale_shift_table_temporal = nn.Parameter(torch.randn(3, width) / width**0.5)
        self.joint_time = config.joint_time
        self.attn = SelfAttention(width, heads, qk_norm=config.qk_norm, rope_first=config.rope_first)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = Mlp(width, int(width * config.mlp_ratio), width)
        self.attn_temp = SelfAttention(width, heads, qk_norm=config.qk_norm, rope_first=config.rope_first)

    def forward(  # noqa: PLR0913, PLR0917 - called with positions by gradient checkpointing
        self,
        tokens: Float[Tensor, "b t s d"],
        modulations: Modulations,
        angles: Angles | None,
        text: Float[Tensor, "b l d"] | KeysValues,
        word_mask: Bool[Tensor, "b 1 1 l"] | None,
        places: Angles | None = None,
    ) -> Float[Tensor, "b t s d"]:
        keys_values = text if isinstance(text, tuple) else self.cross_attn.keys_values(text)
        before = modulations.first(len(tokens))
        space = (self.scale_shift_table + before.space)[:, :, None].unbind(3)
        time = (self.scale_shift_table_temporal + before.time)[:, :, None].unbind(3)
        tokens = add_gated(tokens, space[2], self.attn(modulate(tokens, space[0], space[1]), None, places))
        if angles is not None:
            tokens = add_gated(tokens, time[2], self._along_time(modulate(tokens, time[0], time[1]), angles))
        if len(tokens) < len(modulations.space):
            tokens = each(tokens, len(modulations.space))
            space = (self.scale_shift_table + modulations.space)[:, :, None].unbind(3)
        tokens = tokens + self.cross_attn(tokens, keys_values, word_mask)
        return add_gated(tokens, space[5], self.mlp(modulate(tokens, space[3], space[4])))

    def keys_values(self, words: Float[Tensor, "b l d"]) -> KeysValues:
        """Keys and values of the embedded caption, for `forward` to take in place of it.

        Not for use inside `forward`: where weights are sharded, each of the two gathers its own.
        """
        return self.cross_attn.keys_values(words)

    def _along_time(self, tokens: Float[Tensor, "b t s d"], angles: Angles) -> Float[Tensor, "b t s d"]:
        if self.joint_time:
            together: Tensor = self.attn_temp(tokens.flatten(1, 2)[:, None], None, angles)
            return together.reshape(tokens.shape)
        if self.sequence is None:
            mixed: Tensor = self.attn_temp(tokens, angles)
            return mixed
        mixed = self.attn_temp(self.sequence.to_places(tokens, len(angles[0])), angles)
        return self.sequence.to_frames(mixed, tokens.shape[2])


class FinalLayer(nn.Module):
    """Tokens to the pixels of their patches.

    As published, a given frame is modulated twice: as if it were noised, then by its own vector.
    With `keeps_given` one more channel follows those of the latents: the logits of the gate.
    """

    def __init__(self, config: STDiT2Config) -> None:
        super().__init__()
        pt, ph, pw = config.patch_size
        self.scale_shift_table = nn.Parameter(torch.randn(2, config.hidden) / config.hidden**0.5)
        self.linear = Linear(config.hidden, pt * ph * pw * config.out_channels)
        self.keeps_given, self.out_channels = config.keeps_given, config.out_channels
        if config.keeps_given:
            self.given_gate = GivenGate(config.hidden, config.patch_size)

    def forward(self, tokens: Float[Tensor, "b t s d"], modulations: Modulations) -> Float[Tensor, "b t s p"]:
        out = self._modulate(tokens, modulations.final)
        if modulations.final_given is not None and modulations.denoise_mask is not None:
            given = self._modulate(out, modulations.final_given)
            out = torch.where(modulations.denoise_mask[:, :, None, None], out, given)
        pixels: Tensor = self.linear(out)
        if self.keeps_given:
            places = pixels.reshape(*pixels.shape[:-1], -1, self.out_channels)
            pixels = torch.cat([places, self.given_gate(out)[..., None]], dim=-1).flatten(-2)
        return pixels

    def _modulate(self, tokens: Tensor, vector: Float[Tensor, "b t d"]) -> Float[Tensor, "b t s d"]:
        shift, scale = (self.scale_shift_table + vector[:, :, None])[:, :, None].unbind(3)
        return modulate(tokens, shift, scale)


class STDiT2(nn.Module):
    """The network. `gradient_checkpointing` trades a second forward pass of each block for its memory.

    With a sequence group (`share_tokens`) all ranks of the group get the same arguments and return the same
    output, each having computed its part of the frames.
    """

    def __init__(self, config: STDiT2Config) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.sequence: SequenceGroup | None = None
        width = config.hidden
        self.x_embedder = PatchEmbed(config.in_channels, width, config.patch_size)
        self.t_embedder = ScalarEmbedder(width)
        self.t_block = nn.Sequential(nn.SiLU(), Linear(width, 6 * width))
        self.t_block_temp = nn.Sequential(nn.SiLU(), Linear(width, 3 * width))
        self.y_embedder = CaptionEmbedder(config.caption_channels, width, config.max_tokens)
        self.rope = RotaryEmbedding(width // config.heads)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_layer = FinalLayer(config)
        self.csize_embedder = ScalarEmbedder(width // 3)
        self.ar_embedder = ScalarEmbedder(width // 3)
        self.fl_embedder = ScalarEmbedder(width)
        self.fps_embedder = ScalarEmbedder(width)
        if config.modulate_by_caption:
            self.caption_pool = Linear(width, width)
        initialise(self)
        if config.frame_times:
            self.frame_embedder = FrameTimes(width)

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        timestep: Float[Tensor, " b"],
        conditioning: Conditioning,
        denoise_mask: Bool[Tensor, "b t"] | None = None,
        text: list[KeysValues] | None = None,
    ) -> Float[Tensor, "b out t h w"]:
        """Frames with `denoise_mask` False are given: clean, and treated at timestep 0.

        `text` is `text_keys_values(conditioning.tokens)`, computed once when a prompt serves many steps.
        `conditioning` may have several times the rows of the rest (and so has the output): groups that
        differ by their captions alone, as in guidance. Raises `ValueError` where they are no whole times.
        """
        rows = len(conditioning)
        timestep = each(timestep, rows)
        denoise_mask = None if denoise_mask is None else each(denoise_mask, rows)
        words = self.y_embedder(conditioning.tokens) if text is None else None
        word_mask = None if conditioning.token_mask is None else conditioning.token_mask[:, None, None]
        times = self._frame_times(self._grid(latents)[0], conditioning)
        modulations = self.modulations(timestep, conditioning, self._patch_mask(denoise_mask), times)
        if self.config.modulate_by_caption:
            latents = each(latents, rows)
        tokens = self.x_embedder(latents.to(self.x_embedder.proj.weight.dtype))
        tokens = tokens + self.positions(latents, conditioning)[: len(tokens), None].to(tokens.dtype)
        if times is not None:
            tokens = tokens + times[: len(tokens), :, None].to(tokens.dtype)
        frames, angles, places = tokens.shape[1], self._angles(latents, conditioning), self._places(latents)
        if self.sequence is not None:
            tokens, modulations = self.sequence.own(tokens), modulations.own(self.sequence)
        for block, words_or_text in zip(self._blocks(), text or repeat(words), strict=False):
            arguments = (tokens, modulations, angles, words_or_text, word_mask, places)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(block, *arguments, use_reentrant=False)
            else:
                tokens = block(*arguments)
        pixels = self.final_layer(tokens, modulations)
        if self.sequence is not None:
            pixels = self.sequence.gather(pixels, frames)
        made = self._unpatchify(pixels, latents).float()
        if not self.config.keeps_given:
            return made
        return take_given(made[:, :-1], made[:, -1:], each(latents, rows).float(), denoise_mask)

    def share_tokens(self, sequence: SequenceGroup | None) -> None:
        """Share the tokens of each clip among the ranks of a group, or (None) no longer."""
        if sequence is not None and self.config.joint_time:
            raise ValueError("joint_time: its tokens cannot be shared; set parallel.sequence to 1")
        self.sequence = sequence
        for block in self._blocks():
            block.sequence = sequence

    def text_keys_values(self, tokens: Float[Tensor, "b l c"]) -> list[KeysValues]:
        """Keys and values of the text for each block."""
        words = self.y_embedder(tokens)
        return [block.keys_values(words) for block in self._blocks()]

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    def null_tokens(self, length: int) -> Float[Tensor, "{length} c"]:
        """The first `length` tokens of the null caption."""
        return self.y_embedder.y_embedding[:length]

    def modulations(
        self,
        timestep: Float[Tensor, " b"],
        conditioning: Conditioning,
        denoise_mask: Bool[Tensor, "b t"] | None,
        frames: Float[Tensor, "b t d"] | None = None,
    ) -> Modulations:
        """Time and the facts of the clip; selected per frame here, once, instead of in every block."""
        size = self._size_embedding(conditioning)
        pace = self.fl_embedder(conditioning.frames) + self.fps_embedder(conditioning.fps)
        if self.config.modulate_by_caption:
            gist = self._gist(conditioning)
            size, pace = size + gist, pace + gist

        def at(time: Tensor, final_size: Tensor | None) -> Modulations:
            vector = self.t_embedder(time)[:, None]
            vector = vector if frames is None else vector + frames
            space = self.t_block(vector + size[:, None]).unflatten(-1, (6, -1))
            pace_vectors = self.t_block_temp(vector + pace[:, None]).unflatten(-1, (3, -1))
            final = vector if final_size is None else vector + final_size[:, None]
            return Modulations(space, pace_vectors, final)

        published = self.config.final_layer_published
        noised = at(timestep, None if published else size)
        if denoise_mask is None:
            return noised
        given = at(torch.zeros_like(timestep), size)
        where = denoise_mask[:, :, None]
        space = torch.where(where[..., None], noised.space, given.space)
        time = torch.where(where[..., None], noised.time, given.time)
        if published:
            return Modulations(space, time, noised.final, given.final, denoise_mask)
        return Modulations(space, time, torch.where(where, noised.final, given.final))

    def _gist(self, conditioning: Conditioning) -> Float[Tensor, "b d"]:
        """The mean of the caption's words."""
        words = self.y_embedder(conditioning.tokens)
        if conditioning.token_mask is None:
            mean = words.mean(1)
        else:
            share = conditioning.token_mask.to(words.dtype)[..., None]
            mean = (words * share).sum(1) / share.sum(1).clamp_min(1)
        gist: Tensor = self.caption_pool(mean)
        return gist

    def _size_embedding(self, conditioning: Conditioning) -> Float[Tensor, "b d"]:
        parts = [
            self.csize_embedder(conditioning.height),
            self.csize_embedder(conditioning.width),
            self.ar_embedder(conditioning.aspect_ratio),
        ]
        return torch.cat(parts, dim=1)

    def positions(
        self, latents: Float[Tensor, "b c t h w"], conditioning: Conditioning
    ) -> Float[Tensor, "b s d"]:
        """Positions of the patch grid, scaled by the size of the picture in pixels."""
        _, rows, columns = self._grid(latents)
        scale = (conditioning.height.float() * conditioning.width.float()).sqrt() / self.config.input_sq_size
        scale = scale[:1] if self.config.shared_position_scale else scale
        return position_embedding(scale, rows, columns, self.config.hidden)

    def _places(self, latents: Float[Tensor, "b c t h w"]) -> Angles | None:
        if not self.config.spatial_rope:
            return None
        _, rows, columns = self._grid(latents)
        return place_angles(rows, columns, self.config.hidden // self.config.heads, latents.device)

    def _angles(self, latents: Float[Tensor, "b c t h w"], conditioning: Conditioning) -> Angles | None:
        """Of attention along time; None leaves it out."""
        frames, rows, columns = self._grid(latents)
        if frames == 1 and self.config.images_skip_time:
            return None
        if not self.config.joint_time:
            angles: Angles = self.rope(frames)
            return angles
        half_seconds = 2 * self._seconds(frames, conditioning)
        return joint_angles(half_seconds, rows, columns, self.config.hidden // self.config.heads)

    def _frame_times(self, frames: int, conditioning: Conditioning) -> Float[Tensor, "b t d"] | None:
        if not self.config.frame_times:
            return None
        vectors: Tensor = self.frame_embedder.of(self._seconds(frames, conditioning))
        return vectors

    def _seconds(self, frames: int, conditioning: Conditioning) -> Float[Tensor, "b t"]:
        """When each token along time is seen, from the first on."""
        index = torch.arange(frames, device=conditioning.fps.device, dtype=torch.float32)
        return index * self.config.patch_size[0] / conditioning.fps.float().clamp_min(1e-3)[:, None]

    def _grid(self, latents: Float[Tensor, "b c t h w"]) -> tuple[int, int, int]:
        """Tokens along time, rows and columns."""
        frames, rows, columns = (
            -(-size // patch) for size, patch in zip(latents.shape[2:], self.config.patch_size, strict=True)
        )
        return frames, rows, columns

    def _patch_mask(self, denoise_mask: Bool[Tensor, "b t"] | None) -> Bool[Tensor, "b n"] | None:
        """A patch that spans several frames is generated if one of them is."""
        span = self.config.patch_size[0]
        if denoise_mask is None or span == 1:
            return denoise_mask
        padded = F.pad(denoise_mask, (0, -denoise_mask.shape[1] % span))
        return rearrange(padded, "b (t span) -> b t span", span=span).any(-1)

    def _unpatchify(
        self, pixels: Float[Tensor, "b n s p"], latents: Float[Tensor, "b c t h w"]
    ) -> Float[Tensor, "b out t h w"]:
        pt, ph, pw = self.config.patch_size
        frames, height, width = latents.shape[2:]
        whole = rearrange(
            pixels,
            "b n (h w) (pt ph pw c) -> b c (n pt) (h ph) (w pw)",
            h=-(-height // ph),
            pt=pt,
            ph=ph,
            pw=pw,
        )
        return whole[:, :, :frames, :height, :width]


@torch.no_grad()
def initialise(network: STDiT2) -> None:
    """Xavier for the linear maps; every residual of time and text, and the output, start at zero."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.xavier_uniform_(network.x_embedder.proj.weight.view(network.config.hidden, -1))
    for part in (network.t_embedder, network.t_block, network.t_block_temp, network.y_embedder.y_proj):
        for module in part.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.02)
    for block in network._blocks():
        nn.init.zeros_(block.cross_attn.proj.weight)
        nn.init.zeros_(block.attn_temp.proj.weight)
    nn.init.zeros_(network.final_layer.linear.weight)
    if network.config.keeps_given:
        nn.init.zeros_(network.final_layer.given_gate.linear.weight)
