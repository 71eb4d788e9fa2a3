"""The processes that a network can be trained with, a closed set: what differs is chosen by type here."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion import edm, iddpm, rectified_flow, speed
from kinema.diffusion.edm import EDMConfig
from kinema.diffusion.iddpm import IDDPMConfig, NoisedLatents
from kinema.diffusion.karras import karras_sigmas
from kinema.diffusion.protocols import Denoised
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.diffusion.schedules import Tables

Process = IDDPMConfig | RectifiedFlowConfig | EDMConfig
Schedule = Literal["respaced", "karras"]

_LAST_TIME = 0.999


@cache
def full_tables(process: IDDPMConfig, device: torch.device) -> Tables:
    """All steps of training."""
    return iddpm.tables(process).to(device)


def draw_index(process: Process, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """Where one sample of latents `t h w` is noised to: a step, the time of a flow, or a sigma."""
    match process:
        case IDDPMConfig(timesteps="speed"):
            return speed.draw_timestep(full_tables(process, generator.device), generator)
        case IDDPMConfig():
            return torch.randint(process.steps, (), generator=generator)
        case RectifiedFlowConfig():
            return rectified_flow.draw_time(process, math.prod(shape), generator)
        case EDMConfig():
            return edm.draw_sigma(process, math.prod(shape[1:]), generator)


def noise_share(process: Process, index: Tensor) -> Tensor:
    """The place of a draw in the noise range, from 0 (clean) to 1."""
    match process:
        case IDDPMConfig():
            return index / process.steps
        case RectifiedFlowConfig():
            return index
        case EDMConfig():
            return edm.noise_share(process, index)


def most_steps(process: Process) -> int | None:
    """The most steps that sampling can have, if there is a limit."""
    return None if isinstance(process, EDMConfig) else process.steps


def add_noise(
    process: Process,
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    index: Tensor,
    denoise_mask: Bool[Tensor, "b t"] | None = None,
) -> NoisedLatents:
    """Latents as the network is trained on them; frames with `denoise_mask` False stay exactly clean."""
    match process:
        case IDDPMConfig():
            return iddpm.add_noise(full_tables(process, clean.device), clean, noise, index, denoise_mask)
        case RectifiedFlowConfig():
            return rectified_flow.add_noise(clean, noise, index, denoise_mask)
        case EDMConfig():
            return edm.add_noise(process, clean, noise, index, denoise_mask)


def timestep(process: Process, index: Tensor, denoise_mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """What the network is told of a draw, frame by frame; given frames are the cleanest there are."""
    match process:
        case IDDPMConfig():
            return index[:, None].float() * denoise_mask
        case RectifiedFlowConfig():
            return index[:, None] * process.steps * denoise_mask
        case EDMConfig():
            return edm.told(process, edm.frame_sigma(index, denoise_mask.shape[1], denoise_mask))


def seam_sigma(process: Process, index: Tensor, denoise_mask: Bool[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The sigma of a draw at the samplers' seam, frame by frame; 0 for given frames."""
    match process:
        case IDDPMConfig():
            return full_tables(process, index.device).sigma[index][:, None] * denoise_mask
        case RectifiedFlowConfig():
            return (index / (1 - index))[:, None] * denoise_mask
        case EDMConfig():
            return edm.frame_sigma(index, denoise_mask.shape[1], denoise_mask)


def losses(process: Process, output: Tensor, noised: NoisedLatents) -> dict[str, Float[Tensor, " b"]]:
    """`loss` and its parts, one number per element."""
    match process:
        case IDDPMConfig():
            full = full_tables(process, output.device)
            weights = speed.step_weights(full) if process.timesteps == "speed" else None
            return iddpm.losses(process, full, output, noised, weights)
        case RectifiedFlowConfig():
            return rectified_flow.losses(process, output, noised)
        case EDMConfig():
            return edm.losses(process, output, noised)


def told(
    process: Process, latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]
) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b t"]]:
    """The latents, and what the network is told of each frame, for the seam's clean + sigma noise."""
    match process:
        case IDDPMConfig():
            step = iddpm.timestep_from_sigma(full_tables(process, latents.device), sigma)
            return iddpm.network_latents(latents, sigma), step.float()
        case RectifiedFlowConfig():
            time = rectified_flow.time_from_sigma(sigma)
            return rectified_flow.network_latents(latents, sigma), time * process.steps
        case EDMConfig():
            return edm.network_latents(process, latents, sigma), edm.told(process, sigma)


def denoised(process: Process, output: Tensor, latents: Tensor, sigma: Float[Tensor, "b t"]) -> Denoised:
    """What the network's output says at the seam."""
    match process:
        case IDDPMConfig():
            return iddpm.denoised_from_output(process, output, latents, sigma)
        case RectifiedFlowConfig():
            return rectified_flow.denoised_from_output(process, output, latents, sigma)
        case EDMConfig():
            return edm.denoised_from_output(process, output, latents, sigma)


def sampling_sigmas(
    process: Process, steps: int, schedule: Schedule = "respaced", values: int = 1
) -> Float[Tensor, " steps+1"]:
    """From the most noise down to 0. "respaced": evenly in the process's own steps or (shifted) times.

    Continuous sigma has no steps of its own: there both are Karras et al.'s.
    """
    match process:
        case IDDPMConfig():
            own = iddpm.tables(process, steps).sigma.flip(0)
            full = full_tables(process, torch.device("cpu")).sigma
            low, high = full[0].item(), full[-1].item()
        case RectifiedFlowConfig():
            times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1].clamp_max(_LAST_TIME)
            times = rectified_flow.shift_time(times, rectified_flow.shift_factor(process, values))
            own = (times / (1 - times)).float()
            low, high = 0.002, _LAST_TIME / (1 - _LAST_TIME)
        case EDMConfig():
            return karras_sigmas(steps, process.sigma_min, process.sigma_max)
    if schedule == "karras":
        return karras_sigmas(steps, low, high)
    return torch.cat([own, own.new_zeros(1)])
