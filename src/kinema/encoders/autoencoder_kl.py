"""Published autoencoders of diffusers: single frames (AutoencoderKL), and time as well (CogVideoX)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinema.encoders.latent_frames import fill_up, whole_frames
from kinema.encoders.pretrained import Pretrained, from_source, library
from kinema.errors import CheckpointError

_STREAM = 0x6C6174656E74
"""Keeps the draws of the latents apart from other draws of the same sample."""


@dataclass(frozen=True, kw_only=True)
class FrameAutoencoderConfig:
    """A variational autoencoder of single frames. `source` is a folder or a hub name (with `revision`).

    `micro_batch` frames pass at a time. The other facts are those of the published weights; they are checked
    when the weights are loaded.
    """

    kind: Literal["frame-kl"] = "frame-kl"
    source: str = "stabilityai/sd-vae-ft-ema"
    revision: str = "main"
    subfolder: str = ""
    latent_channels: int = 4
    spatial_factor: int = 8
    scale: float = 0.18215
    micro_batch: int = 4

    def __post_init__(self) -> None:
        _check_sizes(self)


@dataclass(frozen=True, kw_only=True)
class CausalAutoencoderConfig:
    """A causal autoencoder of video, CogVideoX's: 1 + 4 k frames are 1 + k latent frames."""

    kind: Literal["cogvideox"] = "cogvideox"
    source: str = "THUDM/CogVideoX-2b"
    revision: str = "main"
    subfolder: str = "vae"
    latent_channels: int = 16
    spatial_factor: int = 8
    temporal_factor: int = 4
    scale: float = 1.15258426

    def __post_init__(self) -> None:
        _check_sizes(self)


PretrainedAutoencoderConfig = FrameAutoencoderConfig | CausalAutoencoderConfig


class _Published(Pretrained):
    """What both have in common: the config, and latents that are counted in cells of it."""

    config: PretrainedAutoencoderConfig

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.latent_channels

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent cell, along each side."""
        return self.config.spatial_factor

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        """The mode of the distribution."""
        return self._moments(video)[0] * self.config.scale

    def moments(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        """Means, then standard deviations, along the channels; not scaled."""
        return torch.cat(self._moments(video), dim=1)

    def draw(
        self, moments: Float[Tensor, "b c2 t2 h2 w2"], seeds: Sequence[int]
    ) -> Float[Tensor, "b c t2 h2 w2"]:
        """Latents, drawn with one seed a row."""
        mean, deviation = moments.chunk(2, dim=1)
        return (mean + deviation * _noise_like(mean, seeds)) * self.config.scale

    def sample(
        self, video: Float[Tensor, "b 3 t h w"], seeds: Sequence[int]
    ) -> Float[Tensor, "b c t2 h2 w2"]:
        """A draw from the distribution of each row, one seed a row."""
        return self.draw(self.moments(video), seeds)

    @abstractmethod
    def _moments(self, video: Float[Tensor, "b 3 t h w"]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation."""


class FrameAutoencoder(_Published):
    """`AutoencoderKL`, frame by frame. Latents of width n are floor(n / 8) wide."""

    temporal_factor = 1

    def __init__(self, config: FrameAutoencoderConfig) -> None:
        super().__init__(lambda: _load(config, "AutoencoderKL"))
        self.config: FrameAutoencoderConfig = config

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c t h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """Frames, not clamped."""
        flat = rearrange(latents.to(self.anchor.device), "b c t h w -> (b t) c h w") / self.config.scale
        frames = [self.part.decode(some).sample for some in torch.split(flat, self.config.micro_batch)]
        return rearrange(torch.cat(frames), "(b t) c h w -> b c t h w", b=len(latents))

    @torch.no_grad()
    def _moments(self, video: Float[Tensor, "b 3 t h w"]) -> tuple[Tensor, Tensor]:
        flat = rearrange(video.to(self.anchor.device), "b c t h w -> (b t) c h w")
        spread = [self.part.encode(some).latent_dist for some in torch.split(flat, self.config.micro_batch)]
        both = (torch.cat([one.mean for one in spread]), torch.cat([one.std for one in spread]))
        mean, deviation = (rearrange(one, "(b t) c h w -> b c t h w", b=len(video)) for one in both)
        return mean, deviation


class CausalAutoencoder(_Published):
    """`AutoencoderKLCogVideoX`. A video that does not fill its latent frames has its last frame repeated."""

    def __init__(self, config: CausalAutoencoderConfig) -> None:
        super().__init__(lambda: _load(config, "AutoencoderKLCogVideoX"))
        self.config: CausalAutoencoderConfig = config

    @property
    def temporal_factor(self) -> int:
        """Frames a latent frame, but for the first, which holds one."""
        return self.config.temporal_factor

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c t2 h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """All frames that the latents hold: 1 + 4 (t2 - 1)."""
        count = 1 + (latents.shape[2] - 1) * self.temporal_factor
        # The decoder works in pairs of latent frames after the first: an even number would lose its first.
        paired = fill_up(latents.to(self.anchor.device), 2) / self.config.scale
        rows = [self.part.decode(row).sample[:, :, :count] for row in torch.split(paired, 1)]
        return torch.cat(rows)

    @torch.no_grad()
    def _moments(self, video: Float[Tensor, "b 3 t h w"]) -> tuple[Tensor, Tensor]:
        side = self.spatial_factor
        height, width = (length // side * side for length in video.shape[-2:])
        whole = fill_up(video[..., :height, :width].to(self.anchor.device), self.temporal_factor)
        assert whole.shape[2] == whole_frames(video.shape[2], self.temporal_factor)
        spread = [self.part.encode(row).latent_dist for row in torch.split(whole, 1)]
        return torch.cat([one.mean for one in spread]), torch.cat([one.std for one in spread])


PretrainedAutoencoder = FrameAutoencoder | CausalAutoencoder


def open_pretrained(config: PretrainedAutoencoderConfig) -> PretrainedAutoencoder:
    """The adapter of a config; nothing is read before its first use."""
    match config:
        case FrameAutoencoderConfig():
            return FrameAutoencoder(config)
        case CausalAutoencoderConfig():
            return CausalAutoencoder(config)


def _check_sizes(config: PretrainedAutoencoderConfig) -> None:
    for name in ("latent_channels", "spatial_factor", "scale", "micro_batch", "temporal_factor"):
        if getattr(config, name, 1) <= 0:
            raise ValueError(f"{name} must be above 0, got {getattr(config, name)}")


def _load(config: PretrainedAutoencoderConfig, name: str) -> Any:  # noqa: ANN401 - a diffusers class
    kind = getattr(library("diffusers"), name)
    loaded = from_source(
        kind.from_pretrained, config.source, config.revision, config.subfolder, use_safetensors=True
    )
    found = {
        "latent_channels": loaded.config.latent_channels,
        "spatial_factor": 2 ** (len(loaded.config.block_out_channels) - 1),
    }
    for field, value in found.items():
        if value != getattr(config, field):
            raise CheckpointError(
                f"{config.source}: {field} is {value}, the model was made with {getattr(config, field)}"
            )
    return loaded.float()


def _noise_like(mean: Float[Tensor, "b c t h w"], seeds: Sequence[int]) -> Float[Tensor, "b c t h w"]:
    rows = [
        torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(seed ^ _STREAM)) for seed in seeds
    ]
    return torch.stack(rows).to(mean)
