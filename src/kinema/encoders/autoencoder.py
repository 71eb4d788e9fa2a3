"""Stable Video Diffusion's autoencoder: an image encoder, and a decoder that sees several frames together."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinema.checkpoint import fill_module, read_json, read_tensors
from kinema.encoders.pretrained import Pretrained, from_source, library
from kinema.errors import CheckpointError

CLASS_NAME = "AutoencoderKLTemporalDecoder"
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")


@dataclass(frozen=True, kw_only=True)
class TemporalAutoencoderConfig:
    """`source` is the folder of a released model or a hub name; `subfolder` holds the autoencoder.

    `chunk` and `overlap` as in `TemporalAutoencoder`. The other facts are checked when weights are loaded.
    """

    kind: Literal["temporal-kl"] = "temporal-kl"
    source: str = "stabilityai/stable-video-diffusion-img2vid-xt"
    revision: str = "main"
    subfolder: str = "vae"
    latent_channels: int = 4
    spatial_factor: int = 8
    chunk: int = 14
    overlap: int = 4

    def __post_init__(self) -> None:
        _check_chunks(self.chunk, self.overlap)
        if self.latent_channels < 1 or self.spatial_factor < 1:
            raise ValueError(
                f"latent_channels and spatial_factor must be at least 1, got "
                f"{self.latent_channels} and {self.spatial_factor}"
            )


def _check_chunks(chunk: int, overlap: int) -> None:
    if not 0 <= overlap < chunk:
        raise ValueError(f"0 <= overlap < chunk needed, got overlap {overlap}, chunk {chunk}")


class TemporalAutoencoder(nn.Module):
    """An adapter of diffusers' AutoencoderKLTemporalDecoder.

    `chunk` frames are in memory at a time; when decoding, neighbouring chunks share `overlap` frames and are
    faded into each other there. The decoder's norms are over all frames of a chunk, so chunks without an
    overlap differ visibly where they meet.
    """

    def __init__(self, autoencoder: nn.Module, *, chunk: int = 14, overlap: int = 4) -> None:
        super().__init__()
        _check_chunks(chunk, overlap)
        self.autoencoder: Any = autoencoder
        self.chunk, self.overlap = chunk, overlap

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.autoencoder.config.latent_channels)

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent cell, along height and along width."""
        halvings = len(self.autoencoder.config.block_out_channels) - 1
        return 1 << halvings

    @property
    def temporal_factor(self) -> int:
        """Frames a latent frame."""
        return 1

    @property
    def scale(self) -> float:
        """What latents are multiplied by, to be of unit variance."""
        return float(self.autoencoder.config.scaling_factor)

    @torch.no_grad()
    def encode(
        self, video: Float[Tensor, "b 3 t h w"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h2 w2"]:
        """Scaled latents: the mode of the posterior, or a draw from it with a generator."""
        return self.scale * self.encode_unscaled(video, generator)

    @torch.no_grad()
    def encode_unscaled(
        self, video: Float[Tensor, "b 3 t h w"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "b c t h2 w2"]:
        """The same not multiplied by `scale`: so the conditioning frame of image-to-video is encoded."""
        factor = self.spatial_factor
        height, width = (side - side % factor for side in video.shape[-2:])
        frames = rearrange(video[..., :height, :width], "b c t h w -> (b t) c h w")
        posteriors = [self.autoencoder.encode(part).latent_dist for part in torch.split(frames, self.chunk)]
        parts = [p.mode() if generator is None else p.sample(generator) for p in posteriors]
        latents: Tensor = rearrange(torch.cat(parts), "(b t) c h w -> b c t h w", t=video.shape[2])
        return latents

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b c t h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """Video, not clamped; each clip chunk by chunk."""
        return torch.stack([self._decode_clip(clip / self.scale) for clip in latents])

    def _decode_clip(self, latents: Float[Tensor, "c t h w"]) -> Float[Tensor, "3 t h w"]:
        total = latents.shape[1]
        if total <= self.chunk:
            return self._decode_chunk(latents)
        ramp = fade(self.chunk).to(latents)
        video, weight = None, latents.new_zeros(total)
        for part in chunks(total, self.chunk, self.overlap):
            decoded = self._decode_chunk(latents[:, part]) * ramp[:, None, None]
            if video is None:
                video = decoded.new_zeros(decoded.shape[0], total, *decoded.shape[2:])
            video[:, part] += decoded
            weight[part] += ramp
        assert video is not None
        return video / weight[:, None, None]

    def _decode_chunk(self, latents: Float[Tensor, "c t h w"]) -> Float[Tensor, "3 t h w"]:
        frames = rearrange(latents, "c t h w -> t c h w")
        decoded = self.autoencoder.decode(frames, num_frames=len(frames)).sample
        video: Tensor = rearrange(decoded, "t c h w -> c t h w")
        return video


class PublishedTemporalAutoencoder(Pretrained):
    """The same by reference: read when it is first used."""

    temporal_factor = 1

    def __init__(self, config: TemporalAutoencoderConfig) -> None:
        super().__init__(lambda: _load_published(config))
        self.config = config

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.latent_channels

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent cell, along each side."""
        return self.config.spatial_factor

    @property
    def loaded(self) -> TemporalAutoencoder:
        """The adapter with its weights."""
        part = self.part
        assert isinstance(part, TemporalAutoencoder)
        return part

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h2 w2"]:
        """The mode of each frame's distribution, scaled."""
        return self.loaded.encode(video.to(self.anchor.device))

    def encode_unscaled(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h2 w2"]:
        """The same not multiplied by the scale."""
        return self.loaded.encode_unscaled(video.to(self.anchor.device))

    def decode(self, latents: Float[Tensor, "b c t h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """Video, not clamped; each clip chunk by chunk."""
        return self.loaded.decode(latents.to(self.anchor.device))


def _load_published(config: TemporalAutoencoderConfig) -> TemporalAutoencoder:
    load = library("diffusers").AutoencoderKLTemporalDecoder.from_pretrained
    autoencoder = from_source(load, config.source, config.revision, config.subfolder, use_safetensors=True)
    loaded = TemporalAutoencoder(autoencoder.float(), chunk=config.chunk, overlap=config.overlap)
    for name in ("latent_channels", "spatial_factor"):
        if getattr(loaded, name) != getattr(config, name):
            raise CheckpointError(
                f"{config.source}: {name} is {getattr(loaded, name)}, "
                f"the model was made with {getattr(config, name)}"
            )
    return loaded


def chunks(frames: int, chunk: int, overlap: int) -> Iterator[slice]:
    """As few spans of `chunk` frames as share at least `overlap`, evenly spread."""
    count = 1 + math.ceil((frames - chunk) / (chunk - overlap))
    for index in range(count):
        first = index * (frames - chunk) // max(count - 1, 1)
        yield slice(first, first + chunk)


def fade(chunk: int) -> Float[Tensor, " chunk"]:
    """The weight of each frame of a chunk before normalisation: the cube of its distance from the edge.

    The frames at an edge are the worst, as the decoder sees zeros beyond it; a linear fade would show them.
    """
    places = torch.arange(chunk)
    return torch.minimum(places + 1, chunk - places).float() ** 3


def load_temporal_autoencoder(folder: Path) -> TemporalAutoencoder:
    """From the `vae` folder of a released model: config.json and safetensors, in float32."""
    from diffusers import AutoencoderKLTemporalDecoder

    record = read_json(folder / "config.json")
    if record.get("_class_name") != CLASS_NAME:
        raise CheckpointError(
            f"{folder / 'config.json'} describes {record.get('_class_name')!r}, expected {CLASS_NAME}"
        )
    path = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), folder / _WEIGHTS[0])
    autoencoder: Any = AutoencoderKLTemporalDecoder.from_config(record)  # type: ignore[no-untyped-call]
    fill_module(autoencoder, read_tensors(path), str(path))
    return TemporalAutoencoder(autoencoder.eval().requires_grad_(False))


def save_temporal_autoencoder(folder: Path, autoencoder: TemporalAutoencoder) -> None:
    """Write a `vae` folder that diffusers loads."""
    autoencoder.autoencoder.save_pretrained(folder)
