"""The video UNet of Stable Video Diffusion: an image UNet with a temporal layer after every spatial one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from kinema.nn.lean import group_norm_silu
from kinema.nn.unet_blocks import (
    Downsample,
    EmbeddingMLP,
    FrameContext,
    SpatioTemporalResBlock,
    SpatioTemporalTransformer,
    Upsample,
    frame_layout,
    image_layout,
    run,
    sinusoid,
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One number that conditions the network: fps, motion, noise augmentation, elevation, azimuth…

    An `angle` (radians) is embedded as the sinusoids of its sine and its cosine, half the width each.
    """

    name: str
    width: int = 256
    angle: bool = False

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % (4 if self.angle else 2):
            raise ValueError(
                f"the width of condition {self.name!r} must be a multiple of 4, got {self.width}"
            )

    def embed(self, values: Tensor) -> Tensor:
        """`... -> ... width`."""
        if not self.angle:
            return sinusoid(values, self.width)
        parts = [sinusoid(part, self.width // 2) for part in (values.sin(), values.cos())]
        return torch.cat(parts, dim=-1)


def image_to_video_conditions(width: int = 256) -> tuple[Condition, ...]:
    """fps, motion, augmentation: the order of the published weights."""
    return tuple(Condition(name=name, width=width) for name in ("fps", "motion", "augmentation"))


Task = Literal["text-to-video", "image-to-video", "interpolation"]
"""What a network was made for; its number of input channels tells."""


@dataclass(frozen=True, kw_only=True)
class VideoUNetConfig:
    """Sizes of the network. The number of frames is in no weight.

    Beside the noised latents the input has nothing (text-to-video), latents of a picture (image-to-video), or
    latents and a mask (interpolation). `caption_drop`: the share of texts left out in training.

    `placeholder`: height and width of what interpolation learns to show between two frames, stretched to the
    latents. `along_flow`: it makes what is missed by a blend of the two, carried along the optical flow, not
    the frames, and every frame is shown how the two then differ.

    `group_norm_eps` "published" is 1e-5 in every residual block, as in the original and in Stable Diffusion
    2.1; "diffusers" is its stock class (1e-6 in the down blocks with attention and in all up blocks).
    """

    kind: Literal["video-unet"] = "video-unet"
    in_channels: int = 8
    out_channels: int = 4
    channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers: int = 2
    heads: tuple[int, ...] = (5, 10, 20, 20)
    attention: tuple[bool, ...] = (True, True, True, False)
    transformer_depth: int = 1
    context_width: int = 1024
    conditions: tuple[Condition, ...] = field(default_factory=image_to_video_conditions)
    group_norm_eps: Literal["published", "diffusers"] = "published"
    caption_drop: float = 0.15
    placeholder: tuple[int, int] | None = None
    along_flow: bool = False

    def __post_init__(self) -> None:
        levels = len(self.channels)
        if not levels or levels != len(self.heads) or levels != len(self.attention):
            raise ValueError(
                "channels, heads and attention must have one entry per level, got "
                f"{levels}, {len(self.heads)} and {len(self.attention)}"
            )
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % 32 or channels % heads:
                raise ValueError(f"{channels} channels must divide by 32 groups and by {heads} heads")
        if not 0 <= self.caption_drop <= 1:
            raise ValueError(f"caption_drop must be in [0, 1], got {self.caption_drop}")
        if min(self.layers, self.transformer_depth, self.in_channels, self.out_channels) < 1:
            raise ValueError("layers, transformer_depth, in_channels and out_channels must be at least 1")

    @classmethod
    def svd(cls, in_channels: int = 8) -> VideoUNetConfig:
        """The released image-to-video network; 4 channels for text-to-video, 9 for interpolation."""
        return cls(in_channels=in_channels)

    @property
    def task(self) -> Task:
        """What the input channels are for. Raises ValueError for a number that no task has."""
        for task in get_args(Task):
            if self.in_channels == self.channels_for(task):
                found: Task = task
                return found
        raise ValueError(f"no task has {self.in_channels} input channels for latents of {self.out_channels}")

    def channels_for(self, task: Task) -> int:
        """Input channels."""
        match task:
            case "text-to-video":
                return self.out_channels
            case "image-to-video":
                return 2 * self.out_channels
            case "interpolation":
                return 3 * self.out_channels + 2 if self.along_flow else 2 * self.out_channels + 1

    @property
    def condition_width(self) -> int:
        """Width of all conditions' sinusoids together."""
        return sum(condition.width for condition in self.conditions)

    def eps(self, level: int, upwards: bool) -> float:
        """GroupNorm epsilon of the residual blocks of a level."""
        stock = self.group_norm_eps == "diffusers" and (upwards or self.attention[level])
        return 1e-6 if stock else 1e-5


@dataclass(frozen=True, kw_only=True)
class VideoConditioning:
    """What is not noised latents.

    `tokens`: context, of the clip or of each frame. `values`: one column per condition of the config, of the
    clip or of each frame. `channels`: latents and masks beside the noised ones. `image_only`: frames, or
    whole clips, that are independent images.
    """

    tokens: Float[Tensor, "b l d"] | Float[Tensor, "b t l d"]
    values: Float[Tensor, "b n"] | Float[Tensor, "b t n"]
    channels: Float[Tensor, "b c t h w"] | None = None
    image_only: Bool[Tensor, "b t"] | Bool[Tensor, " b"] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> VideoConditioning:
        """The same on another device."""
        return VideoConditioning(
            tokens=self.tokens.to(device),
            values=self.values.to(device),
            channels=None if self.channels is None else self.channels.to(device),
            image_only=None if self.image_only is None else self.image_only.to(device),
        )


def _per_frame(values: Tensor, frames: int, axes: int = 1) -> Tensor:
    """`b ...` or `b t ...` -> `b t ...`, where a clip's value has `axes` axes."""
    return values if values.ndim > axes else values.unsqueeze(1).expand(-1, frames, *values.shape[1:])


class _Stage(nn.Module):
    """The residual blocks of a level, each followed by a transformer where the level has attention."""

    def __init__(self, config: VideoUNetConfig, inputs: list[int], level: int, *, upwards: bool) -> None:
        super().__init__()
        out, embedding = config.channels[level], 4 * config.channels[0]
        eps = config.eps(level, upwards)
        if config.attention[level]:
            self.attentions = _transformers(config, level, len(inputs))
        self.resnets = nn.ModuleList(SpatioTemporalResBlock(width, out, embedding, eps) for width in inputs)
        self.checkpointing = False

    def layer(self, index: int, features: Tensor, context: FrameContext) -> Tensor:
        features = run(self.resnets[index], features, context, checkpointing=self.checkpointing)
        if "attentions" in self._modules:
            features = self.attentions[index](features, context)
        return features


def _transformers(config: VideoUNetConfig, level: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(
        SpatioTemporalTransformer(
            config.channels[level],
            config.heads[level],
            config.context_width,
            config.transformer_depth,
        )
        for _ in range(count)
    )


class DownStage(_Stage):
    """Returns its last features and what the way up will need."""

    def __init__(self, config: VideoUNetConfig, level: int) -> None:
        before, out = config.channels[max(level - 1, 0)], config.channels[level]
        super().__init__(config, [before] + [out] * (config.layers - 1), level, upwards=False)
        if level < len(config.channels) - 1:
            self.downsamplers = nn.ModuleList([Downsample(out)])

    def forward(self, features: Tensor, context: FrameContext) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for index in range(len(self.resnets)):
            features = self.layer(index, features, context)
            skips.append(features)
        if "downsamplers" in self._modules:
            features = self.downsamplers[0](features)
            skips.append(features)
        return features, skips


class MidStage(nn.Module):
    """Residual block, transformer, residual block."""

    def __init__(self, config: VideoUNetConfig) -> None:
        super().__init__()
        width, embedding = config.channels[-1], 4 * config.channels[0]
        self.attentions = _transformers(config, len(config.channels) - 1, 1)
        self.resnets = nn.ModuleList(SpatioTemporalResBlock(width, width, embedding, 1e-5) for _ in range(2))
        self.checkpointing = False

    def forward(self, features: Tensor, context: FrameContext) -> Tensor:
        features = run(self.resnets[0], features, context, checkpointing=self.checkpointing)
        features = self.attentions[0](features, context)
        return run(self.resnets[1], features, context, checkpointing=self.checkpointing)


class UpStage(_Stage):
    """Joins one skip connection before each residual block."""

    def __init__(self, config: VideoUNetConfig, level: int) -> None:
        channels = config.channels
        out, above = channels[level], channels[min(level + 1, len(channels) - 1)]
        skips = [out] * config.layers + [channels[max(level - 1, 0)]]
        hidden = [above] + [out] * config.layers
        super().__init__(config, [a + b for a, b in zip(hidden, skips, strict=True)], level, upwards=True)
        if level:
            self.upsamplers = nn.ModuleList([Upsample(out)])

    def forward(self, features: Tensor, skips: list[Tensor], context: FrameContext) -> Tensor:
        """Takes its skip connections off the end of `skips`."""
        for index in range(len(self.resnets)):
            features = self.layer(index, torch.cat([features, skips.pop()], dim=1), context)
        if "upsamplers" in self._modules:
            features = self.upsamplers[0](features, skips[-1].shape[-2:])
        return features


class VideoUNet(nn.Module):
    """Denoises all frames of a clip together; keys as in diffusers' UNetSpatioTemporalConditionModel."""

    def __init__(self, config: VideoUNetConfig) -> None:
        super().__init__()
        self.config = config
        first, levels = config.channels[0], range(len(config.channels))
        self.conv_in = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.time_embedding = EmbeddingMLP(first, 4 * first, 4 * first)
        if config.placeholder is not None:
            self.placeholder = nn.Parameter(torch.zeros(config.out_channels, *config.placeholder))
        if config.conditions:
            self.add_embedding = EmbeddingMLP(config.condition_width, 4 * first, 4 * first)
        self.down_blocks = nn.ModuleList(DownStage(config, level) for level in levels)
        self.up_blocks = nn.ModuleList(UpStage(config, level) for level in reversed(levels))
        self.mid_block = MidStage(config)
        self.conv_norm_out = nn.GroupNorm(32, first, eps=1e-5)
        self.conv_out = nn.Conv2d(first, config.out_channels, 3, padding=1)

    @property
    def gradient_checkpointing(self) -> bool:
        """Whether each block is computed twice in training, to keep less in memory."""
        return self.mid_block.checkpointing

    @gradient_checkpointing.setter
    def gradient_checkpointing(self, value: bool) -> None:
        for module in self.modules():
            if isinstance(module, _Stage | MidStage | SpatioTemporalTransformer):
                module.checkpointing = value

    def forward(
        self,
        latents: Float[Tensor, "b c t h w"],
        c_noise: Float[Tensor, " b"] | Float[Tensor, "b t"],
        conditioning: VideoConditioning,
    ) -> Float[Tensor, "b o t h w"]:
        """`latents` already scaled by c_in; `c_noise` is what the process tells of sigma: ln(sigma) / 4."""
        if conditioning.channels is not None:
            latents = torch.cat([latents, self._filled(conditioning.channels).to(latents.dtype)], dim=1)
        batch, channels, frames = latents.shape[:3]
        if channels != self.config.in_channels:
            raise ValueError(f"expected {self.config.in_channels} input channels, got {channels}")
        context = self._context(batch, frames, c_noise, conditioning)
        features = image_layout(rearrange(latents, "b c t h w -> (b t) c h w"))
        features = frame_layout(self.conv_in(features))
        skips = [features]
        for down in self.down_blocks:
            features, new = down(features, context)
            skips += new
        features = self.mid_block(features, context)
        for up in self.up_blocks:
            features = up(features, skips, context)
        features = self.conv_out(group_norm_silu(image_layout(features), self.conv_norm_out))
        output: Tensor = rearrange(features, "(b t) c h w -> b c t h w", t=frames)
        return output

    def _filled(self, channels: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """With the placeholder where the mask, the last channel, is 0."""
        if self.config.placeholder is None:
            return channels
        shown, mask = channels[:, :-1], channels[:, -1:]
        size = (channels.shape[3], channels.shape[4])
        learned = nn.functional.interpolate(
            self.placeholder[None], size, mode="bilinear", align_corners=False
        )
        return torch.cat([torch.where(mask > 0, shown, learned[:, :, None].to(shown)), mask], dim=1)

    def _context(
        self, batch: int, frames: int, c_noise: Tensor, conditioning: VideoConditioning
    ) -> FrameContext:
        embedding = self.time_embedding(sinusoid(_per_frame(c_noise, frames), self.config.channels[0]))
        if self.config.conditions:
            embedding = embedding + self._embed_conditions(_per_frame(conditioning.values, frames, 2))
        image_only = conditioning.image_only
        if image_only is not None:
            image_only = _per_frame(image_only.bool(), frames) if image_only.any() else None
        tokens = conditioning.tokens
        if tokens.shape[0] != batch or tokens.shape[-1] != self.config.context_width:
            raise ValueError(
                f"expected tokens ({batch}, ..., {self.config.context_width}), got {tuple(tokens.shape)}"
            )
        if tokens.ndim == 4 and tokens.shape[1] != frames:
            raise ValueError(f"{tokens.shape[1]} frames of tokens, {frames} of latents")
        return FrameContext(
            frames=frames,
            embedding=nn.functional.silu(rearrange(embedding, "b t d -> (b t) d")),
            tokens=tokens,
            image_only=image_only,
            all_images=image_only is not None and bool(image_only.all()),
        )

    def _embed_conditions(self, values: Float[Tensor, "b t n"]) -> Float[Tensor, "b t d"]:
        conditions = self.config.conditions
        if values.shape[-1] != len(conditions):
            names = ", ".join(condition.name for condition in conditions)
            raise ValueError(f"expected {len(conditions)} values ({names}), got {values.shape[-1]}")
        parts = [condition.embed(values[..., index]) for index, condition in enumerate(conditions)]
        embedded: Tensor = self.add_embedding(torch.cat(parts, dim=-1))
        return embedded

    def temporal_parameters(self) -> dict[str, nn.Parameter]:
        """What an image network does not have: temporal layers, frame positions, mixes."""
        marks = ("temporal_res_block", "temporal_transformer_blocks", "time_pos_embed", "time_mixer")
        return {name: p for name, p in self.named_parameters() if any(mark in name for mark in marks)}
