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

_LEAST_SPREAD = 1e-3
_USUAL_SPREAD = 0.1
_AROUND = 9
"""Places across, whose mean is taken off what two frames show together."""


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

    @property
    def counts(self) -> Float[Tensor, "b c 1 h w"]:
        """How much an error in a place counts beside the others of its clip: in latents, not as a share."""
        return self.spread / self.spread.square().mean((1, 2, 3, 4), keepdim=True).sqrt()


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


def both_ends(  # noqa: PLR0913 - as many things decide it
    image_encoder: ImageEncoder,
    pictures: Float[Tensor, "b 3 2 h w"],
    latents: Float[Tensor, "b c 2 h2 w2"],
    frames: int,
    augmentation: Augmentation,
    *,
    over_blend: bool = False,
) -> Beside:
    """The first and last of `frames`, noised as (scaled) latents, and a channel that is 1 on them.

    Between them the network puts what it has learned to put there. `over_blend`: every frame is shown what
    the two are beside each other (`compared`), without noise.
    """
    mixed = blend(latents, frames) if over_blend else None
    channels = _ends_and_mask(augmentation.on(latents), frames) if mixed is None else compared(latents, mixed)
    tokens = image_encoder.encode(rearrange(pictures, "b c t h w -> (b t) c h w"))
    return Beside(
        tokens=rearrange(tokens, "(b t) n d -> b (t n) d", t=2),
        channels=channels,
        augmentation=augmentation.sigma * (mixed is None),
        blend=mixed,
    )


def _ends_and_mask(ends: Float[Tensor, "b c 2 h w"], frames: int) -> Float[Tensor, "b c1 t h w"]:
    shown = ends.new_zeros(*ends.shape[:2], frames, *ends.shape[3:])
    shown[:, :, [0, -1]] = ends
    mask = ends.new_zeros(len(ends), 1, frames, *ends.shape[3:])
    mask[:, :, [0, -1]] = 1
    return torch.cat([shown, mask], dim=1)


def compared(ends: Float[Tensor, "b c 2 h w"], mixed: Blend) -> Float[Tensor, "b c2 t h w"]:
    """Two frames beside each other, for each frame between them; c2 is 2 c + 2.

    How they differ, as a share of the spread; what they show together, without its mean over the places
    around and at contrast 1; the logarithm of the spread; and how far the frame is from the first, 0 to 1.
    """
    frames = mixed.mean.shape[2]
    apart = (ends[:, :, 1] - ends[:, :, 0]) / mixed.spread[:, :, 0]
    together = ends.mean(2)
    around = F.avg_pool2d(together, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    texture = together - around
    texture = texture / texture.square().mean((1, 2, 3), keepdim=True).sqrt().clamp_min(_LEAST_SPREAD)
    size = (mixed.spread[:, :, 0].mean(1, keepdim=True) / _USUAL_SPREAD).log() / 2
    still = torch.cat([apart, texture, size], dim=1)[:, :, None].expand(-1, -1, frames, -1, -1)
    way = torch.linspace(0, 1, frames, device=ends.device, dtype=ends.dtype)
    return torch.cat([still, way[:, None, None].expand(len(ends), 1, -1, *ends.shape[3:])], dim=1)


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
