"""Sigma schedules of continuous-sigma samplers, and guidance scales that vary over frames."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor


def karras_sigmas(
    steps: int, sigma_min: float = 0.002, sigma_max: float = 700.0, rho: float = 7.0
) -> Float[Tensor, " steps+1"]:
    """From sigma_max down to sigma_min, evenly in sigma^(1 / rho), then 0 (Karras et al. 2022, eq. 5)."""
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"0 < sigma_min < sigma_max needed, got {sigma_min}, {sigma_max}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    top, bottom = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (top + ramp * (bottom - top)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)]).float()


def image_model_sigmas(
    steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.0120
) -> Float[Tensor, " steps"]:
    """Stable Diffusion's discrete noise levels, most noise first: betas linear in their square root."""
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    return ((1 - kept) / kept).sqrt().flip(0).float()


def constant_guidance(frames: int, scale: float) -> Float[Tensor, " frames"]:
    """The same scale for every frame."""
    return torch.full((frames,), scale)


def linear_guidance(frames: int, low: float, high: float) -> Float[Tensor, " frames"]:
    """Grows from the given first frame to the last."""
    return torch.linspace(low, high, frames)


def triangle_guidance(frames: int, low: float, high: float, periods: int = 1) -> Float[Tensor, " frames"]:
    """Up to the middle frame and down again: an orbit ends where it began."""
    phase = torch.linspace(0, 1, frames, dtype=torch.float64) * periods
    wave = 1 - (2 * (phase - phase.floor()) - 1).abs()
    return (low + (high - low) * wave).float()


def published_trapezoid_guidance(
    frames: int, low: float, high: float, edge: float = 0.1
) -> Float[Tensor, " frames"]:
    """The published trapezoid with its bug: between the ramps the scale is 1 (off), not `high`.

    Only for reproducing results made with it.
    """
    ramp = torch.linspace(low, high, int(edge * frames))
    return torch.cat([ramp, torch.ones(frames - 2 * len(ramp)), ramp.flip(0)])


def view_time_guidance(views: int, frames: int, low: float, high: float) -> Float[Tensor, "frames views"]:
    """For a grid of views by frames: half the range over the orbit (triangle), half over time (linear)."""
    half = (high - low) / 2
    return low + linear_guidance(frames, 0, half)[:, None] + triangle_guidance(views, 0, half)


def guide_frames(
    conditional: Float[Tensor, "b c t h w"],
    unconditional: Float[Tensor, "b c t h w"],
    scale: Float[Tensor, " t"],
) -> Float[Tensor, "b c t h w"]:
    """Push each frame's estimate away from the unconditional one by its own scale."""
    weight = rearrange(scale.to(conditional), "t -> 1 1 t 1 1")
    return unconditional + weight * (conditional - unconditional)
