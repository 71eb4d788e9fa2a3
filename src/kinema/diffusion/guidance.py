"""Guidance: away from what is made without the prompt, or without what was added to a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinema.diffusion.karras import constant_guidance, linear_guidance, triangle_guidance
from kinema.diffusion.protocols import Denoise, Denoised

GuidanceShape = Literal["linear", "triangle"]


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """How hard to push each frame: `scale` for all, or from `first` up to it.

    "linear" grows over the frames; "triangle" reaches `scale` in the middle and comes back, for orbits. 1 is
    off. The first half of the steps, which decides what moves and how, is pushed besides: away from the same
    with everything at rest, by `motion` (0 is off), and from the network without its LoRAs, by `lora` (1 is
    off).
    """

    scale: float = 1.0
    first: float | None = None
    shape: GuidanceShape = "linear"
    motion: float = 0.0
    lora: float = 1.0

    @property
    def is_on(self) -> bool:
        """Whether any frame is pushed."""
        return self.scale != 1.0 or self.first not in (None, 1.0)

    def scales(self, frames: int) -> Float[Tensor, " frames"]:
        """One scale a frame."""
        if self.first is None:
            return constant_guidance(frames, self.scale)
        match self.shape:
            case "linear":
                return linear_guidance(frames, self.first, self.scale)
            case "triangle":
                return triangle_guidance(frames, self.first, self.scale)


def as_guidance(scale: float | Guidance) -> Guidance:
    """A number is the scale of every frame."""
    return scale if isinstance(scale, Guidance) else Guidance(scale=scale)


def guide(
    conditional: Denoised,
    unconditional: Denoised,
    scale: float | Float[Tensor, " t"],
    channels: int | None = None,
) -> Denoised:
    """Push the estimate away from the unconditional one; scale 1 is off, and each frame may have its own.

    Only the first `channels` channels are guided (None: all): the published sampler guides three of four.
    The variance is the conditional one.
    """
    weight = scale
    if isinstance(weight, Tensor):
        weight = rearrange(weight.to(conditional.clean), "t -> 1 1 t 1 1")
    guided = torch.lerp(unconditional.clean, conditional.clean, weight)
    if channels is not None:
        guided = torch.cat([guided[:, :channels], conditional.clean[:, channels:]], dim=1)
    return Denoised(guided, conditional.variance_fraction)


def guided_by(denoise: Denoise, weaker: Denoise, scale: float) -> Denoise:
    """Away from what a weaker network makes of the same; scale 1 is off.

    Autoguidance (Karras et al., arXiv:2406.02507).
    """
    return lambda latents, sigma: guide(denoise(latents, sigma), weaker(latents, sigma), scale)


def in_first_half(sigmas: Float[Tensor, " steps+1"], early: Denoise, late: Denoise) -> Denoise:
    """One in the first half of the steps, rounded up, then the other.

    Guidance in an interval of noise (Kynkaanniemi et al., arXiv:2404.07724).
    """
    limit = float(sigmas[len(sigmas) // 2])

    def chosen(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        return (late if bool((sigma <= limit).all()) else early)(latents, sigma)

    return chosen


def split_rows(estimate: Denoised, count: int) -> list[Denoised]:
    """The parts of one forward pass over `count` times the rows."""
    fractions: Sequence[Tensor | None] = [None] * count
    if estimate.variance_fraction is not None:
        fractions = estimate.variance_fraction.chunk(count)
    return [
        Denoised(clean, fraction)
        for clean, fraction in zip(estimate.clean.chunk(count), fractions, strict=True)
    ]
