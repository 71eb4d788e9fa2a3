"""Masked training and sampling exactly as published with Open-Sora 1.1, kept to check parity with it.

`iddpm.add_noise` and `samplers.sample_ancestral` are what the program uses. The published forms differ:
given frames are slightly noised in training; in sampling, a given frame is replaced by the network's output
at the last step, and an edited frame is presented as clean (timestep 0) on its first noised step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.diffusion.iddpm import (
    IDDPMConfig,
    NoisedLatents,
    clean_from_prediction,
    noise_to,
    reverse_step,
    split_output,
)
from kinema.diffusion.protocols import Draw
from kinema.diffusion.schedules import Tables

Predict = Callable[
    [Float[Tensor, "b c t h w"], Int[Tensor, " b"], Bool[Tensor, "b t"]], Float[Tensor, "b c2 t h w"]
]
"""`predict(latents, timestep, denoise_mask)`: the network's raw output."""


def add_noise_published(
    tables: Tables,
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    index: Int[Tensor, " b"],
    denoise_mask: Bool[Tensor, "b t"],
) -> NoisedLatents:
    """Given frames are noised like step 0."""
    noised = noise_to(tables, clean, noise, index)
    given = noise_to(tables, clean, noise, torch.zeros_like(index))
    latents = torch.where(rearrange(denoise_mask, "b t -> b 1 t 1 1"), noised, given)
    return NoisedLatents(latents, clean, noise, index, denoise_mask)


def sample_step_published(  # noqa: PLR0913, PLR0917 - all of a step, spelt out
    predict: Predict,
    latents: Float[Tensor, "b c t h w"],
    tables: Tables,
    step: int,
    mask: Float[Tensor, "b t"],
    draw: Draw,
) -> Float[Tensor, "b c t h w"]:
    """One ancestral step under mask values from 0 (given) to 1 (generated); draws noise twice."""
    thresholds = rearrange((mask * len(tables)).long(), "b t -> b 1 t 1 1")
    index = torch.full((len(latents),), step, device=latents.device)
    renoised = noise_to(tables, latents, draw(), index)
    noised = torch.where(thresholds == step, renoised, latents)
    output = predict(noised, tables.timestep_map[index], rearrange(thresholds > step, "b 1 t 1 1 -> b t"))
    config = IDDPMConfig()
    prediction, variance = split_output(config, output)
    assert variance is not None
    estimate = clean_from_prediction(config, tables, prediction, noised, index)
    back = reverse_step(tables, estimate, (variance + 1) / 2, noised, index)
    step_noise = draw()
    moved = back.mean + (torch.exp(0.5 * back.log_variance) * step_noise if step else 0.0)
    return torch.where(thresholds < step, latents, moved)


def sample_published(
    predict: Predict,
    latents: Float[Tensor, "b c t h w"],
    tables: Tables,
    mask: Float[Tensor, "b t"],
    draw: Draw,
) -> Float[Tensor, "b c t h w"]:
    """All steps. `latents` holds noise in the generated frames and clean latents in the others."""
    for step in reversed(range(len(tables))):
        latents = sample_step_published(predict, latents, tables, step, mask, draw)
    return latents
