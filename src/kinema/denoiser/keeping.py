"""Pixels of given frames where a video shows the same: an autoencoder does not give all of a frame back."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.denoiser.sampling import Given
from kinema.nn.given import blend_of_given, frames_at, given_around

_ACROSS = 9
"""Pixels across that a difference is looked at over."""
_NEAR = 4
"""Given frames at most as far apart between which what they agree on is taken to have stayed."""


def keep_given(
    video: Float[Tensor, "b 3 t h w"], given: Given | None, closeness: float
) -> Float[Tensor, "b 3 t h w"]:
    """Take what a decoded video shows of given frames from their pixels; given frames come back exactly.

    A place shows what is given when it differs from the given frames around it, as decoded and blended over
    time, by a root mean square d (of 9x9 pixels from -1 to 1): exp(-d^2 / 2 closeness^2) of it is taken. So
    are places on which two given frames no more than four frames apart agree. `closeness` 0 takes nothing.
    Raises ValueError for given frames whose pixels are not known.
    """
    if given is None or not closeness:
        return video
    if given.pictures is None:
        raise ValueError("pixels of given frames are kept only where each has latents of its own")
    made, pictures = given.denoise_mask.to(video.device) > 0, given.pictures.to(video)
    kept = blend_of_given(pictures, made)
    shown = _like(video, blend_of_given(video, made), closeness)
    share = 1 - (1 - shown) * (1 - _stayed(pictures, made, closeness))
    share = share * rearrange(~made.all(1), "b -> b 1 1 1 1")
    return torch.lerp(video, kept, share)


def _stayed(
    pictures: Float[Tensor, "b 3 t h w"], made: Bool[Tensor, "b t"], closeness: float
) -> Float[Tensor, "b 1 t h w"]:
    """Where the given frames before and after a frame agree, if they are near each other."""
    before, after = given_around(made)
    alike = _like(frames_at(pictures, before), frames_at(pictures, after), closeness)
    between = (before < after) & (after - before <= _NEAR)
    return alike * rearrange(between, "b t -> b 1 t 1 1")


def _like(
    one: Float[Tensor, "b 3 t h w"], other: Float[Tensor, "b 3 t h w"], closeness: float
) -> Float[Tensor, "b 1 t h w"]:
    squares = rearrange((one - other).square().mean(1), "b t h w -> (b t) 1 h w")
    around = F.avg_pool2d(squares, _ACROSS, stride=1, padding=_ACROSS // 2, count_include_pad=False)
    return rearrange((-around / (2 * closeness**2)).exp(), "(b t) 1 h w -> b 1 t h w", b=len(one))
