"""What a network is shown beside noised latents: one picture to move, or two to find the frames between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from kinema.encoders.autoencoder_kl import FrameAutoencoder
from kinema.encoders.protocols import Autoencoder, ImageEncoder
from kinema.video.flow import carried

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
    """Two frames as each would look at every time between them, in scaled latents."""

    early: Float[Tensor, "b c t h w"]
    late: Float[Tensor, "b c t h w"]

    @cached_property
    def mean(self) -> Float[Tensor, "b c t h w"]:
        """From the first to the last in equal steps."""
        share = torch.linspace(0, 1, self.early.shape[2], device=self.early.device)
        return torch.lerp(self.early, self.late, repeat(share, "t -> 1 1 t 1 1"))

    @cached_property
    def spread(self) -> Float[Tensor, "b c t h w"]:
        """How much there can be to add: how far the two are apart, over 3x3 places."""
        apart = rearrange((self.late - self.early).square(), "b c t h w -> b (c t) h w")
        around = F.avg_pool2d(apart, 3, stride=1, padding=1, count_include_pad=False).sqrt()
        return around.clamp_min(_LEAST_SPREAD).view(self.early.shape)

    def missed_in(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """What the blend misses, as a share of the spread."""
        return (latents - self.mean) / self.spread

    def with_missed(self, missed: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
        """The latents again."""
        return self.mean + missed * self.spread

    @property
    def counts(self) -> Float[Tensor, "b c t h w"]:
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
    along_flow: Autoencoder | None = None,
) -> Beside:
    """The first and last of `frames`, noised as (scaled) latents, and a channel that is 1 on them.

    Between them the network puts what it has learned to put there. `along_flow`: the autoencoder of a network
    that makes what the two, carried along the flow, miss; every frame is shown what they then are beside each
    other (`compared`), without noise.
    """
    mixed = None if along_flow is None else blend_along_flow(along_flow, pictures, latents, frames)
    channels = _ends_and_mask(augmentation.on(latents), frames) if mixed is None else compared(mixed)
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


def compared(mixed: Blend) -> Float[Tensor, "b c2 t h w"]:
    """Two frames beside each other, at each time between them; c2 is 2 c + 2.

    How they differ, as a share of the spread; what they show together, without its mean over the places
    around and at contrast 1; the logarithm of the spread; and how far the frame is from the first, 0 to 1.
    """
    frames = mixed.mean.shape[2]
    apart = (mixed.late - mixed.early) / mixed.spread
    together = rearrange((mixed.early + mixed.late) / 2, "b c t h w -> b (c t) h w")
    around = F.avg_pool2d(together, _AROUND, stride=1, padding=_AROUND // 2, count_include_pad=False)
    texture = (together - around).view(apart.shape)
    texture = texture / texture.square().mean((1, 2, 3, 4), keepdim=True).sqrt().clamp_min(_LEAST_SPREAD)
    size = (mixed.spread.mean(1, keepdim=True) / _USUAL_SPREAD).log() / 2
    way = torch.linspace(0, 1, frames, device=apart.device, dtype=apart.dtype)
    return torch.cat([apart, texture, size, way[:, None, None].expand_as(size)], dim=1)


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
        blend=Blend(torch.cat([one.early for one in blends]), torch.cat([one.late for one in blends]))
        if blends
        else None,
    )


def blend(ends: Float[Tensor, "b c 2 h w"], frames: int) -> Blend:
    """Two frames that stay as they are: their mean is the linear blend."""
    return Blend(*(ends[:, :, at : at + 1].expand(-1, -1, frames, -1, -1) for at in (0, 1)))


def blend_along_flow(
    autoencoder: Autoencoder,
    pictures: Float[Tensor, "b 3 2 h w"],
    latents: Float[Tensor, "b c 2 h w"],
    frames: int,
) -> Blend:
    """Two frames carried along the optical flow between them; its ends are latents that are known."""
    early, late = (autoencoder.encode(side).to(latents) for side in carried(pictures, frames))
    early[:, :, 0], late[:, :, -1] = latents[:, :, 0], latents[:, :, 1]
    return Blend(early, late)


def unscaled(autoencoder: Autoencoder, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h2 w2"]:
    """Latents as the autoencoder gives them, before they are scaled to unit variance."""
    match autoencoder:
        case _Unscaled():
            return autoencoder.encode_unscaled(video)
        case FrameAutoencoder():
            return autoencoder.encode(video) / autoencoder.config.scale
        case _:
            return autoencoder.encode(video)
