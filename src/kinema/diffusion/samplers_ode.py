"""Samplers over continuous sigma, each a plain function of a `Denoise`; given frames are handled once.

All take `noise` (unit variance), `sigmas` (falling, the last one 0), and what is given: `denoise_mask` False
(or 0) keeps the frame of `given`, exactly; True (or 1) generates it; a value between is an edit, which starts
from the given frame, noised, at its share of the last steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion.protocols import Denoise, Draw
from kinema.diffusion.samplers import first_noised_steps

Watch = Callable[[int, Float[Tensor, "b c t h w"]], None]
"""`watch(step, latents)`: 0 before the first step, then after each."""


Mask = Bool[Tensor, "b t"] | Float[Tensor, "b t"]


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
    denoise_mask: Mask | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
    churn: Churn | None = None,
    draw: Draw | None = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b c t h w"]:
    """First order (Karras et al. 2022, algorithm 2 without its correction)."""

    def step(latents: Tensor, sigma: float, following: float, mask: Tensor) -> Tensor:
        return latents + (following - sigma) * _slope(denoise, latents, sigma, mask)

    return _integrate(step, noise, sigmas, _Given(denoise_mask, given), _Stir(churn, draw), watch)


def sample_heun(  # noqa: PLR0913 (what is given comes as latents and mask)
    denoise: Denoise,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Float[Tensor, " steps+1"],
    *,
    denoise_mask: Mask | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
    churn: Churn | None = None,
    draw: Draw | None = None,
    watch: Watch | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Second order: the mean of the slopes at both ends, except in the last step to sigma 0 (algorithm 2)."""

    def step(latents: Tensor, sigma: float, following: float, mask: Tensor) -> Tensor:
        slope = _slope(denoise, latents, sigma, mask)
        ahead = latents + (following - sigma) * slope
        if following == 0:
            return ahead
        slope = (slope + _slope(denoise, ahead, following, mask)) / 2
        return latents + (following - sigma) * slope

    return _integrate(step, noise, sigmas, _Given(denoise_mask, given), _Stir(churn, draw), watch)


def sample_ddim(  # noqa: PLR0913 (what is given comes as latents and mask)
    denoise: Denoise,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Float[Tensor, " steps+1"],
    *,
    denoise_mask: Mask | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
    eta: float = 0.0,
    draw: Draw | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Deterministic, or with `eta` 1 as noisy as the ancestral sampler (Song et al., arXiv:2010.02502)."""

    def step(latents: Tensor, sigma: float, following: float, mask: Tensor) -> Tensor:
        clean = denoise(latents, sigma * mask.to(latents.dtype)).clean
        fresh = eta * following * math.sqrt(1 - (following / sigma) ** 2)
        kept = math.sqrt(following**2 - fresh**2) / sigma
        ahead = clean + kept * (latents - clean)
        return ahead if fresh == 0 or draw is None else ahead + fresh * draw()

    if eta > 0 and draw is None:
        raise ValueError("eta above 0 needs draw, the source of its noise")
    return _integrate(step, noise, sigmas, _Given(denoise_mask, given), _Stir(None, None), None)


def sample_dpmpp_2m(
    denoise: Denoise,
    noise: Float[Tensor, "b c t h w"],
    sigmas: Float[Tensor, " steps+1"],
    *,
    denoise_mask: Mask | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Second order at one evaluation a step: the last two estimates, extrapolated in log sigma.

    DPM-Solver++ (2M), Lu et al., arXiv:2211.01095. A frame that only now takes part has one estimate yet.
    """
    last: list[tuple[Tensor, float, Tensor]] = []

    def step(latents: Tensor, sigma: float, following: float, mask: Tensor) -> Tensor:
        clean = guess = denoise(latents, sigma * mask.to(latents.dtype)).clean
        if last and following > 0:
            before, higher, known = last.pop()
            share = math.log(sigma / following) / (2 * math.log(higher / sigma))
            guess = torch.where(_over_frames(known), clean + share * (clean - before), clean)
        last[:] = [(clean, sigma, mask)]
        return torch.lerp(guess, latents, following / sigma)

    return _integrate(step, noise, sigmas, _Given(denoise_mask, given), _Stir(None, None), None)


@dataclass(frozen=True)
class _Given:
    mask: Tensor | None
    latents: Tensor | None

    def __post_init__(self) -> None:
        if (self.mask is None) != (self.latents is None):
            raise ValueError("denoise_mask and given belong together")

    def first_steps(self, noise: Tensor, steps: int) -> Tensor:
        """The step from which each frame takes part; `steps`, which never comes, for given frames."""
        if self.mask is None:
            return torch.zeros(noise.shape[0], noise.shape[2], dtype=torch.long, device=noise.device)
        return steps - first_noised_steps(self.mask.to(noise.device), steps)


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
    first = given.first_steps(noise, len(levels) - 1)
    latents: Tensor = noise * (1 + levels[0] ** 2) ** 0.5
    if given.latents is not None:
        latents = torch.where(_over_frames(first == 0), latents, given.latents)
    for index, (sigma, following) in enumerate(pairwise(levels)):
        mask = first <= index
        if given.latents is not None and index:
            starts = _over_frames(first == index)
            latents = torch.where(starts, given.latents + sigma * noise, latents)
        if watch is not None:
            watch(index, latents)
        stirred, raised = _stirred(latents, sigma, len(levels) - 1, mask, stir)
        latents = torch.where(_over_frames(mask), step(stirred, raised, following, mask), latents)
    if watch is not None:
        watch(len(levels) - 1, latents)
    return latents


def _over_frames(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b 1 t 1 1"]:
    return mask[:, None, :, None, None]


def _stirred(latents: Tensor, sigma: float, steps: int, mask: Tensor, stir: _Stir) -> tuple[Tensor, float]:
    raised = sigma if stir.churn is None else stir.churn.raised(sigma, steps)
    if raised == sigma or stir.churn is None or stir.draw is None:
        return latents, sigma
    scale = (raised**2 - sigma**2) ** 0.5 * stir.churn.noise_scale
    return latents + scale * _over_frames(mask) * stir.draw(), raised


def _slope(denoise: Denoise, latents: Tensor, sigma: float, mask: Tensor) -> Tensor:
    """d latents / d sigma; zero on given frames, which are told sigma 0 and come back as they are."""
    slope = (latents - denoise(latents, sigma * mask.to(latents.dtype)).clean) / sigma
    return slope * _over_frames(mask)
