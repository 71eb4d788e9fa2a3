"""What a network must know of its encoders: from the encoders, or from the config before they are opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from kinema.encoders.autoencoder_kl import CausalAutoencoderConfig
from kinema.encoders.embedded import PatchPCAConfig
from kinema.encoders.latent_frames import latent_frames
from kinema.encoders.protocols import Autoencoder, ImageEncoder, NoText, TextEncoder
from kinema.nn.flops import LatentShape
from kinema.shapes import Size
from kinema.train.config import AutoencoderConfig, TrainConfig


@dataclass(frozen=True)
class RunEncoders:
    """What a run encodes with; `image` is there for the tasks that are shown pictures."""

    autoencoder: Autoencoder
    text: TextEncoder
    image: ImageEncoder | None = None


@dataclass(frozen=True, kw_only=True)
class EncoderSizes:
    """Of the latents, and of the tokens beside them: `words` of `context_width`."""

    latent_channels: int
    spatial_factor: int
    temporal_factor: int
    context_width: int
    words: int

    @classmethod
    def of(cls, encoders: RunEncoders) -> Self:
        """Those of encoders that are there."""
        autoencoder, image = encoders.autoencoder, encoders.image
        return cls(
            latent_channels=autoencoder.latent_channels,
            spatial_factor=autoencoder.spatial_factor,
            temporal_factor=autoencoder.temporal_factor,
            context_width=encoders.text.width if image is None else image.width,
            words=encoders.text.max_tokens,
        )

    @classmethod
    def asked(cls, config: TrainConfig) -> Self:
        """Those that a config asks for; nothing is opened or made."""
        channels, spatial, temporal = _latents(config.autoencoder)
        pictured = config.task != "text-to-video"
        return cls(
            latent_channels=channels,
            spatial_factor=spatial,
            temporal_factor=temporal,
            context_width=config.image_encoder.width if pictured else config.text_encoder.width,
            words=NoText.max_tokens if pictured else config.text_encoder.max_tokens,
        )

    def latents(self, frames: int, size: Size) -> LatentShape:
        """Those of one clip."""
        return LatentShape(
            frames=latent_frames(frames, self.temporal_factor),
            height=size.height // self.spatial_factor,
            width=size.width // self.spatial_factor,
            words=self.words,
        )


def _latents(asked: AutoencoderConfig) -> tuple[int, int, int]:
    """Channels, pixels a cell along each side, frames a latent frame."""
    match asked:
        case PatchPCAConfig():
            return asked.components, asked.patch, 1
        case CausalAutoencoderConfig():
            return asked.latent_channels, asked.spatial_factor, asked.temporal_factor
        case _:
            return asked.latent_channels, asked.spatial_factor, 1
