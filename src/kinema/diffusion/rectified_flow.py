"""Rectified flow: straight lines from noise to clean latents (Liu et al., arXiv:2209.03003).

At time t in [0, 1] the latents are (1 - t) clean + t noise, and the network predicts noise - clean, or the
clean latents (Li and He, arXiv:2511.13720); the loss is that of the velocity in both cases. Times are drawn
logit-normally and shifted to more noise for larger videos (Esser et al., arXiv:2403.03206).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion.iddpm import NoisedLatents, masked_mean
from kinema.diffusion.protocols import Denoised


@dataclass(frozen=True, kw_only=True)
class RectifiedFlowConfig:
    """Times are sigmoid(N(logit_mean, logit_std^2)), then shifted by the root of values / base_values.

    `base_values` counts the values of one latent channel (t h w) at which nothing is shifted; None never
    shifts. The network is told t * steps. `prediction` is what its output means; below `least_time` the
    weight of a clean prediction's error, 1 / t^2, stays what it is there.
    """

    kind: Literal["rectified-flow"] = "rectified-flow"
    steps: int = 1000
    logit_mean: float = 0.0
    logit_std: float = 1.0
    base_values: int | None = None
    prediction: Literal["velocity", "clean"] = "velocity"
    least_time: float = 0.05

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if self.logit_std <= 0:
            raise ValueError(f"logit_std must be above 0, got {self.logit_std}")
        if not 0 < self.least_time <= 1:
            raise ValueError(f"least_time must be in (0, 1], got {self.least_time}")
        if self.base_values is not None and self.base_values < 1:
            raise ValueError(f"base_values must be at least 1, got {self.base_values}")

    @property
    def learned_variance(self) -> bool:
        """A flow is deterministic: there is no variance to learn."""
        return False


def shift_time(time: Float[Tensor, "*n"], factor: float) -> Float[Tensor, "*n"]:
    """The time at which sigma = t / (1 - t) is `factor` times what it was."""
    return factor * time / (1 + (factor - 1) * time)


def shift_factor(config: RectifiedFlowConfig, values: int) -> float:
    """How much more noise latents of `values` (t h w) need to look as noisy as the base."""
    return 1.0 if config.base_values is None else math.sqrt(values / config.base_values)


def draw_time(config: RectifiedFlowConfig, values: int, generator: torch.Generator) -> Float[Tensor, ""]:
    """One training time for latents of `values` (t h w)."""
    normal = torch.randn((), generator=generator, device=generator.device)
    return shift_time(
        torch.sigmoid(config.logit_mean + config.logit_std * normal), shift_factor(config, values)
    )


def add_noise(
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    time: Float[Tensor, " b"],
    denoise_mask: Bool[Tensor, "b t"] | None = None,
) -> NoisedLatents:
    """Latents at `time`; frames with `denoise_mask` False stay exactly clean."""
    latents = torch.lerp(clean, noise, rearrange(time, "b -> b 1 1 1 1"))
    if denoise_mask is not None:
        latents = torch.where(rearrange(denoise_mask, "b t -> b 1 t 1 1"), latents, clean)
    return NoisedLatents(latents, clean, noise, time, denoise_mask)


def losses(
    config: RectifiedFlowConfig, output: Float[Tensor, "b c t h w"], noised: NoisedLatents
) -> dict[str, Float[Tensor, " b"]]:
    """`mse` of the velocity, over the generated frames, which is the `loss`."""
    velocity = noised.noise - noised.clean
    if config.prediction == "clean":
        # noise - clean = (latents - clean) / t: the same error, divided by the time.
        time = noised.index.clamp_min(config.least_time)
        error = (output - noised.clean) / rearrange(time, "b -> b 1 1 1 1")
    else:
        error = output - velocity
    mse = masked_mean(error.square(), noised.denoise_mask)
    return {"mse": mse, "loss": mse}


def time_from_sigma(sigma: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """The time of each frame."""
    return sigma / (1 + sigma)


def network_latents(
    latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]
) -> Float[Tensor, "b c t h w"]:
    """From the seam's clean + sigma noise to (1 - t) clean + t noise."""
    return latents * rearrange(1 / (1 + sigma), "b t -> b 1 t 1 1")


def denoised_from_output(
    config: RectifiedFlowConfig,
    output: Float[Tensor, "b c t h w"],
    latents: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, "b t"],
) -> Denoised:
    """The clean estimate at the seam; a given frame (sigma 0) is its own."""
    if config.prediction == "clean":
        return Denoised(torch.where(rearrange(sigma > 0, "b t -> b 1 t 1 1"), output, latents))
    time = rearrange(sigma / (1 + sigma), "b t -> b 1 t 1 1")
    return Denoised(network_latents(latents, sigma) - time * output)
