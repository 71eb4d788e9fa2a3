"""What a network is shown beside noised latents: one picture to move, or two to find the frames between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from kinema.encoders.autoencoder_kl import FrameAutoencoder
from kinema.encoders.protocols import Autoencoder, ImageEncoder

_LEAST_SPREAD = 0.01


@runtime_checkable
class _Unscaled(Protocol):
    """An autoencoder that tells its latents before they are scaled."""

    def encode_unscaled(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h2 w2"]: ...


@dataclass(frozen=True)
class Blend:
    """The linear blend of two frames in scaled latents, and how much there can be to add to it: where the two
    are alike, next to nothing.
    """

    mean: Float[Tensor, "b c t h w"]
    spread: Float[Tensor, "b c 1 h w"]

    def missed_in(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """What the blend misses, as a share of the spread."""
        return (latents - self.mean) / self.spread

    def with_missed(self, missed: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The latents again."""
        return self.mean + missed * self.spread


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Context tokens of the pictures, channels beside the latents, and the noise that was added to them.

    `blend`, where a network makes only what blending two frames misses.
    """

    tokens: Float[Tensor, "b n d"]
    channels: Float[Tensor, "b c t h w"]
    augmentation: Float[Tensor, " b"]
    blend: Blend | None = None


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Noise on what is shown: `sigma` of it, standard normal `noise`."""

    sigma: Float[Tensor, " b"]
    noise: Tensor

    def on(self, values: Tensor) -> Tensor:
        """The noised values."""
        sigma = self.sigma.reshape(-1, *[1] * (values.ndim - 1))
        return values + sigma * self.noise


def first_frame(
    autoencoder: Autoencoder,
    image_encoder: ImageEncoder,
    pictures: Float[Tensor, "b 3 h w"],
    frames: int,
    augmentation: Augmentation,
) -> Beside:
    """One picture for all frames. Noise is added to its pixels; the tokens are those of the clean picture.

    The latents are the mode of the autoencoder's distribution, not scaled, as published.
    """
    latents = unscaled(autoencoder, augmentation.on(pictures)[:, :, None])
    return Beside(
        tokens=image_encoder.encode(pictures),
        channels=latents.expand(-1, -1, frames, -1, -1),
        augmentation=augmentation.sigma,
    )


def both_ends(
    image_encoder: ImageEncoder,
    pictures: Float[Tensor, "b 3 2 h w"],
    latents: Float[Tensor, "b c 2 h2 w2"],
    frames: int,
    augmentation: Augmentation,
) -> Beside:
    """The first and last of `frames`, noised as (scaled) latents, and a channel that is 1 on them.

    Between them the network puts what it has learned to put there.
    """
    shown = latents.new_zeros(*latents.shape[:2], frames, *latents.shape[3:])
    shown[:, :, [0, -1]] = augmentation.on(latents)
    mask = latents.new_zeros(len(latents), 1, frames, *latents.shape[3:])
    mask[:, :, [0, -1]] = 1
    tokens = image_encoder.encode(rearrange(pictures, "b c t h w -> (b t) c h w"))
    return Beside(
        tokens=rearrange(tokens, "(b t) n d -> b (t n) d", t=2),
        channels=torch.cat([shown, mask], dim=1),
        augmentation=augmentation.sigma,
    )


def beside_together(rows: Sequence[Beside | None]) -> Beside | None:
    """One batch of rows that all are shown pictures, or all are not."""
    found = [row for row in rows if row is not None]
    if len(found) < len(rows):
        return None
    blends = [row.blend for row in found if row.blend is not None]
    return Beside(
        tokens=torch.cat([row.tokens for row in found]),
        channels=torch.cat([row.channels for row in found]),
        augmentation=torch.cat([row.augmentation for row in found]),
        blend=Blend(torch.cat([one.mean for one in blends]), torch.cat([one.spread for one in blends]))
        if blends
        else None,
    )


def blend(ends: Float[Tensor, "b c 2 h w"], frames: int) -> Blend:
    """From the first to the last in equal steps; the spread is how far they are apart, over 3x3 places."""
    share = repeat(torch.linspace(0, 1, frames, device=ends.device), "t -> 1 1 t 1 1")
    apart = (ends[:, :, 1] - ends[:, :, 0]).square()
    spread = F.avg_pool2d(apart, 3, stride=1, padding=1, count_include_pad=False).sqrt()
    mean = torch.lerp(ends[:, :, :1], ends[:, :, 1:], share)
    return Blend(mean, spread.clamp_min(_LEAST_SPREAD)[:, :, None])


def unscaled(autoencoder: Autoencoder, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h2 w2"]:
    """Latents as the autoencoder gives them, before they are scaled to unit variance."""
    match autoencoder:
        case _Unscaled():
            return autoencoder.encode_unscaled(video)
        case FrameAutoencoder():
            return autoencoder.encode(video) / autoencoder.config.scale
        case _:
            return autoencoder.encode(video)
