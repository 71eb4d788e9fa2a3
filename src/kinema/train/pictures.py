"""What a network of pictures is shown in training: the noise on it, and how often it is left out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.dataset.loader import Batch
from kinema.denoiser.pictures import Augmentation, Beside, both_ends, first_frame
from kinema.diffusion.edm import augmentation_sigma
from kinema.encoders.protocols import Autoencoder, ImageEncoder
from kinema.nn import Network, VideoUNet
from kinema.train.config import PicturesConfig

_STREAM = 0x70696374757265
"""Keeps these draws apart from other draws of the same sample."""


@dataclass(frozen=True, kw_only=True)
class PictureDraws:
    """Everything random about the pictures of a batch, each row from its own sample's seed."""

    augmentation: Augmentation
    tokens_dropped: Bool[Tensor, " b"]
    latents_dropped: Bool[Tensor, " b"]

    def to(self, device: torch.device | str) -> PictureDraws:
        """Move every tensor."""
        return PictureDraws(
            augmentation=Augmentation(
                sigma=self.augmentation.sigma.to(device), noise=self.augmentation.noise.to(device)
            ),
            tokens_dropped=self.tokens_dropped.to(device),
            latents_dropped=self.latents_dropped.to(device),
        )


def draw_pictures(
    seeds: list[int], shape: tuple[int, ...], config: PicturesConfig, root: int
) -> PictureDraws:
    """`shape` is that of a row's noise; `root` the run's seed."""
    noise, sigma, tokens, latents = [], [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed ^ root ^ _STREAM)
        noise.append(torch.randn(shape, generator=generator))
        sigma.append(augmentation_sigma(generator, config.noise_mean, config.noise_std))
        place = torch.rand((), generator=generator)
        only_tokens, only_latents = config.drop_tokens, config.drop_tokens + config.drop_latents
        both = (place >= only_latents) & (place < only_latents + config.drop_both)
        tokens.append((place < only_tokens) | both)
        latents.append(((place >= only_tokens) & (place < only_latents)) | both)
    return PictureDraws(
        augmentation=Augmentation(sigma=torch.stack(sigma), noise=torch.stack(noise)),
        tokens_dropped=torch.stack(tokens),
        latents_dropped=torch.stack(latents),
    )


@dataclass(frozen=True)
class Pictures:
    """Makes what the network is shown of a batch."""

    autoencoder: Autoencoder
    image_encoder: ImageEncoder
    config: PicturesConfig
    root: int

    def of(
        self, network: Network, batch: Batch, clean: Float[Tensor, "b c t h w"]
    ) -> tuple[Beside, PictureDraws] | None:
        """Beside the latents of each row; None for a network of texts alone."""
        if not isinstance(network, VideoUNet):
            return None
        frames = clean.shape[2]
        match network.config.task:
            case "text-to-video":
                return None
            case "image-to-video":
                pictures = batch.video[:, :, 0]
                draws = self._draws(batch, pictures)
                shown = first_frame(
                    self.autoencoder, self.image_encoder, pictures, frames, draws.augmentation
                )
            case "interpolation":
                ends = clean[:, :, [0, -1]]
                draws = self._draws(batch, ends)
                shown = both_ends(
                    self.image_encoder,
                    batch.video[:, :, [0, -1]],
                    ends,
                    frames,
                    draws.augmentation,
                    along_flow=self.autoencoder if network.config.along_flow else None,
                )
        return shown, draws

    def _draws(self, batch: Batch, shown: Tensor) -> PictureDraws:
        shape = tuple(shown.shape[1:])
        return draw_pictures(batch.seeds, shape, self.config, self.root).to(shown.device)
