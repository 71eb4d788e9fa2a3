"""SpeeD: draws fewer timesteps where little changes, and weights them (Wang et al., arXiv:2405.17403)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from kinema.diffusion.schedules import Tables

STEEP, FLAT = 1e-4, 5e-5


def step_weights(tables: Tables) -> Float[Tensor, " n"]:
    """The weight of the mse at each step: 1 / (1 + SNR)."""
    return 1 / (1 + snr(tables))


def snr(tables: Tables) -> Float[Tensor, " n"]:
    return 1 / (1 - tables.alphas_cumprod) - 1


def growth(tables: Tables) -> Float[Tensor, " n"]:
    """How fast the noise of a step grows with the step."""
    # In float64: `probabilities` multiplies the rounding of these small differences by a million.
    (gradient,) = torch.gradient((1 - tables.alphas_cumprod).double().sqrt())
    return gradient


def meaningful_steps(tables: Tables) -> int:
    """The number of steps before the noise hardly changes any more; all, if it always changes."""
    flat = (growth(tables) < FLAT).nonzero()
    return int(flat[0]) + 1 if len(flat) else len(tables)


def probabilities(tables: Tables) -> Float[Tensor, " n"]:
    """How likely each step is drawn: steep steps five times as often as flat ones."""
    preference = torch.tanh(1e6 * (growth(tables) - STEEP)) + 1.5
    return (preference / preference.sum()).float()


def draw_timestep(tables: Tables, generator: torch.Generator) -> Int[Tensor, ""]:
    """One step of `draw_timesteps`: a fair coin says whether it is the drawn one or its mirror image."""
    pair = draw_timesteps(tables, 2, generator, half=1)
    return pair[torch.randint(2, (), generator=generator)]


def draw_timesteps(
    tables: Tables, count: int, generator: torch.Generator, half: int | None = None
) -> Int[Tensor, " count"]:
    """Half from `probabilities` (as published, one more), each with its mirror in the meaningful steps."""
    drawn = count // 2 + 1 if half is None else half
    weights = probabilities(tables).to(generator.device)
    first = torch.multinomial(weights, drawn, replacement=True, generator=generator)
    last = meaningful_steps(tables)
    # Step 0 mirrors to the first step beyond the meaningful ones.
    mirror = torch.where(first < last, last - first, first - last).clamp_max(len(tables) - 1)
    return torch.cat([first, mirror])[:count]
