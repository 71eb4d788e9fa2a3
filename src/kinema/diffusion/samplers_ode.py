"""Euler and Heun samplers over continuous sigma (Karras et al. 2022, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion.protocols import Denoise, Draw

Watch = Callable[[int, Float[Tensor, "b c t h w"]], None]
"""`watch(step, latents)`: 0 before the first step, then after each."""


@dataclass(frozen=True, kw_only=True)
class Churn:
    """Noise added before a step: raises sigma by `amount / steps` of itself, between the two sigmas."""

    amount: float = 0.0
    sigma_min: float = 0.0
    sigma_max: float = float("inf")
    noise_scale: float = 1.0

    def raised(self, sigma: float, steps: int) -> float:
        """The sigma that the step starts from."""
        inside = self.sigma_min <= sigma <= self.sigma_max
        return sigma * (1 + min(self.amount / steps, 2**0.5 - 1)) if inside else sigma


def sample_euler(  # noqa: PLR0913 (what is given comes as latents and mask)
    denoise: Denoise,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Float[Tensor, " steps+1"],
    *,
    denoise_mask: Bool[Tensor, "b t"] | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
    churn: Churn | None = None,
    draw: Draw | None = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b c t h w"]:
    """First order. Frames with `denoise_mask` False are those of `given`, exactly."""

    def step(latents: Tensor, sigma: float, following: float, mask: Tensor) -> Tensor:
        return latents + (following - sigma) * _slope(denoise, latents, sigma, mask)

    return _integrate(step, noise, sigmas, _Given(denoise_mask, given), _Stir(churn, draw), watch)


def sample_heun(  # noqa: PLR0913 (what is given comes as latents and mask)
    denoise: Denoise,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Float[Tensor, " steps+1"],
    *,
    denoise_mask: Bool[Tensor, "b t"] | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
    churn: Churn | None = None,
    draw: Draw | None = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Second order: the mean of the slopes at both ends, except in the last step to sigma 0."""

    def step(latents: Tensor, sigma: float, following: float, mask: Tensor) -> Tensor:
        slope = _slope(denoise, latents, sigma, mask)
        ahead = latents + (following - sigma) * slope
        if following == 0:
            return ahead
        slope = (slope + _slope(denoise, ahead, following, mask)) / 2
        return latents + (following - sigma) * slope

    return _integrate(step, noise, sigmas, _Given(denoise_mask, given), _Stir(churn, draw), watch)


@dataclass(frozen=True)
class _Given:
    mask: Tensor | None
    latents: Tensor | None

    def __post_init__(self) -> None:
        if (self.mask is None) != (self.latents is None):
            raise ValueError("denoise_mask and given belong together")


@dataclass(frozen=True)
class _Stir:
    churn: Churn | None
    draw: Draw | None

    def __post_init__(self) -> None:
        if self.churn is not None and self.draw is None:
            raise ValueError("churn needs draw, the source of its noise")


def _integrate(  # noqa: PLR0913, PLR0917 (shared by the samplers, whose arguments it takes)
    step: Callable[[Tensor, float, float, Tensor], Tensor],
    noise: Tensor,
    sigmas: Tensor,
    given: _Given,
    stir: _Stir,
    watch: Watch | None,
) -> Tensor:
    levels: list[float] = sigmas.double().tolist()
    latents: Tensor = noise * (1 + levels[0] ** 2) ** 0.5
    mask = torch.ones(noise.shape[0], noise.shape[2], dtype=torch.bool, device=noise.device)
    if given.mask is not None and given.latents is not None:
        mask = given.mask
        latents = torch.where(mask[:, None, :, None, None], latents, given.latents)
    for index, (sigma, following) in enumerate(pairwise(levels)):
        if watch is not None:
            watch(index, latents)
        latents, raised = _stirred(latents, sigma, len(levels) - 1, mask, stir)
        latents = step(latents, raised, following, mask)
    if watch is not None:
        watch(len(levels) - 1, latents)
    return latents


def _stirred(latents: Tensor, sigma: float, steps: int, mask: Tensor, stir: _Stir) -> tuple[Tensor, float]:
    raised = sigma if stir.churn is None else stir.churn.raised(sigma, steps)
    if raised == sigma or stir.churn is None or stir.draw is None:
        return latents, sigma
    scale = (raised**2 - sigma**2) ** 0.5 * stir.churn.noise_scale
    return latents + scale * mask[:, None, :, None, None] * stir.draw(), raised


def _slope(denoise: Denoise, latents: Tensor, sigma: float, mask: Tensor) -> Tensor:
    """d latents / d sigma; zero on given frames, which are told sigma 0 and come back as they are."""
    slope = (latents - denoise(latents, sigma * mask.to(latents.dtype)).clean) / sigma
    return slope * mask[:, None, :, None, None]
