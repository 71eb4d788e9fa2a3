"""Samplers: plain functions of a `Denoise`."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion.iddpm import Step, reverse_step
from kinema.diffusion.protocols import Denoise, Draw
from kinema.diffusion.schedules import Tables


def gaussian(like: Float[Tensor, "b c t h w"], generator: torch.Generator) -> Draw:
    """Standard normal tensors in the shape of `like`, from `generator`."""
    return lambda: torch.randn(like.shape, generator=generator, device=generator.device).to(like)


def first_noised_steps(strength: Float[Tensor, "b t"], steps: int) -> Float[Tensor, "b t"]:
    """How many of the last steps each frame takes part in: none at strength 0, all at strength 1.

    A positive strength takes at least one step, so that only strength 0 means given.
    """
    counts = (strength.double() * steps).round().long()
    return torch.where(strength > 0, counts.clamp_min(1), 0)


def sample_ancestral(  # noqa: PLR0913 - what is given comes as latents and mask
    denoise: Denoise,
    noise: Float[Tensor, "b c t h w"],
    tables: Tables,
    generator: torch.Generator | Draw,
    *,
    denoise_mask: Bool[Tensor, "b t"] | Float[Tensor, "b t"] | None = None,
    given: Float[Tensor, "b c t h w"] | None = None,
) -> Float[Tensor, "b c t h w"]:
    """From `noise` to clean latents, one ancestral step for each entry of `tables`.

    `denoise_mask` False (or 0) keeps the frame of `given`, exactly; True (or 1) generates it; a value
    between is an edit: the frame stays as given until its share of the last steps is reached, is noised to
    that level, and takes part from there. `generator` may be replaced by a function that gives the noise.
    """
    if (denoise_mask is None) != (given is None):
        raise ValueError("denoise_mask and given belong together")
    draw = gaussian(noise, generator) if isinstance(generator, torch.Generator) else generator
    counts = _step_counts(noise, denoise_mask, len(tables))
    latents = noise if given is None else torch.where(_frames(counts == len(tables)), noise, given)
    for step in reversed(range(len(tables))):
        if given is not None:
            starts = _frames((counts == step + 1) & (counts < len(tables)))
            latents = torch.where(starts, _noised(tables, given, noise, step), latents)
        active = counts > step
        back = _step_back(denoise, latents, tables, step, active)
        step_noise = torch.exp(0.5 * back.log_variance) * draw() if step else 0.0
        latents = torch.where(_frames(active), back.mean + step_noise, latents)
    return latents


def _step_counts(noise: Tensor, denoise_mask: Tensor | None, steps: int) -> Float[Tensor, "b t"]:
    if denoise_mask is None:
        return torch.full((noise.shape[0], noise.shape[2]), steps, device=noise.device)
    return first_noised_steps(denoise_mask.to(noise.device), steps)


def _frames(mask: Bool[Tensor, "b t"]) -> Bool[Tensor, "b 1 t 1 1"]:
    return rearrange(mask, "b t -> b 1 t 1 1")


def _noised(tables: Tables, clean: Tensor, noise: Tensor, step: int) -> Tensor:
    return tables.sqrt_alphas_cumprod[step] * clean + tables.sqrt_one_minus_alphas_cumprod[step] * noise


def _step_back(
    denoise: Denoise,
    latents: Float[Tensor, "b c t h w"],
    tables: Tables,
    step: int,
    active: Bool[Tensor, "b t"],
) -> Step:
    """Where the active frames go from `step`; the others are shown to the network as clean."""
    sigma = torch.where(active, tables.sigma[step], 0.0)
    scaled = torch.where(_frames(active), latents * tables.sqrt_recip_alphas_cumprod[step], latents)
    denoised = denoise(scaled, sigma)
    index = torch.full((len(latents),), step, device=latents.device)
    return reverse_step(tables, denoised.clean, denoised.variance_fraction, latents, index)
