"""Continuous-sigma diffusion: preconditioning, noise distribution, loss (Karras et al. 2022, equations 7, 8).

Latents are clean + sigma * noise. Sigma is per clip (`b`) or per frame (`b t`); 0 marks a given frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion.karras import image_model_sigmas
from kinema.diffusion.protocols import Denoise, Denoised

Network = Callable[[Float[Tensor, "b c t h w"], Float[Tensor, "b t"]], Float[Tensor, "b c t h w"]]
"""`network(scaled_latents, c_noise)`: conditioning is already inside."""


@dataclass(frozen=True)
class Scales:
    """denoised = c_skip * latents + c_out * network(c_in * latents, c_noise)."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


@dataclass(frozen=True, kw_only=True)
class EDMConfig:
    """The process. The default is Stable Video Diffusion's: velocity, told ln(sigma) / 4.

    prediction: "velocity" (what Stable Diffusion 2.1 predicts; EDM's with sigma_data 1, up to the sign),
    "edm" (with `sigma_data`), "noise". told: what the network hears of sigma: "log" (ln(sigma) / 4), "sigma",
    or "timestep" (the nearest of an image model's 1000 discrete steps). ln(sigma) ~ N(p_mean, p_std^2).
    """

    prediction: Literal["velocity", "edm", "noise"] = "velocity"
    told: Literal["log", "sigma", "timestep"] = "log"
    sigma_data: float = 1.0
    p_mean: float = -1.2
    p_std: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 700.0

    def __post_init__(self) -> None:
        if self.sigma_data <= 0 or self.p_std < 0:
            raise ValueError(
                f"sigma_data must be positive and p_std not negative: {self.sigma_data}, {self.p_std}"
            )
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(f"0 < sigma_min < sigma_max needed, got {self.sigma_min}, {self.sigma_max}")
        if self.prediction == "velocity" and self.sigma_data != 1:
            raise ValueError(f"velocity needs sigma_data 1, got {self.sigma_data}; use prediction 'edm'")


def scales(config: EDMConfig, sigma: Tensor) -> Scales:
    """The four coefficients at each sigma > 0, any shape, in the precision of `sigma`."""
    variance = sigma**2
    match config.prediction:
        case "velocity":
            total = variance + 1
            c_skip, c_out = 1 / total, -sigma / total.sqrt()
        case "edm":
            total = variance + config.sigma_data**2
            c_skip, c_out = config.sigma_data**2 / total, sigma * config.sigma_data / total.sqrt()
        case "noise":
            total = variance + 1
            c_skip, c_out = torch.ones_like(sigma), -sigma
    return Scales(c_skip, c_out, total.rsqrt(), c_noise(config, sigma))


def c_noise(config: EDMConfig, sigma: Tensor) -> Tensor:
    """What the network is told of sigma."""
    match config.told:
        case "log":
            return 0.25 * sigma.log()
        case "sigma":
            return sigma
        case "timestep":
            return image_timestep(sigma)


def image_timestep(sigma: Tensor) -> Tensor:
    """The nearest discrete step of an image model (0 = least noise), by log sigma, as float."""
    table = image_model_sigmas().flip(0).log().to(sigma.device)
    middles = (table[1:] + table[:-1]) / 2
    return torch.bucketize(sigma.clamp(min=1e-12).log().to(table.dtype), middles).float()


def loss_weight(config: EDMConfig, sigma: Tensor) -> Tensor:
    """1 / c_out^2: the loss is the plain squared error of the network's own output."""
    return scales(config, sigma).c_out ** -2


def denoiser(network: Network, config: EDMConfig) -> Denoise:
    """Around a network, the seam that samplers know. Frames at sigma 0 come back as they were."""

    def denoise(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        given = sigma == 0
        at = scales(config, sigma.clamp(min=config.sigma_min))
        output = network(latents * over_frames(at.c_in), at.c_noise)
        clean = over_frames(at.c_skip) * latents + over_frames(at.c_out) * output
        return Denoised(torch.where(over_frames(given), latents, clean))

    return denoise


def over_frames(values: Tensor) -> Tensor:
    """`b` or `b t` -> `b 1 t 1 1`, beside latents."""
    return rearrange(values if values.ndim == 2 else values[:, None], "b t -> b 1 t 1 1")


def draw_sigma(config: EDMConfig, clips: int, generator: torch.Generator) -> Float[Tensor, " clips"]:
    """One sigma per clip, shared by its frames: exp(N(p_mean, p_std^2))."""
    normal = torch.randn(clips, generator=generator, device=generator.device)
    return (config.p_mean + config.p_std * normal).exp()


def augmentation_sigma(
    clips: int, generator: torch.Generator, mean: float = -3.0, std: float = 0.5
) -> Float[Tensor, " clips"]:
    """Noise for the conditioning frame: exp(N(-3, 0.5^2)), told to the network as it is."""
    return (mean + std * torch.randn(clips, generator=generator, device=generator.device)).exp()


def for_resolution(config: EDMConfig, trained: tuple[int, int], new: tuple[int, int]) -> EDMConfig:
    """More noise for more pixels: ln(sigma) rises by half the log of the ratio of areas.

    Neighbours agree more there; the noise left after averaging down to the trained size stays what it was.
    """
    ratio = (new[0] * new[1]) / (trained[0] * trained[1])
    return replace(config, p_mean=config.p_mean + 0.5 * math.log(ratio))


def velocity(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """v = (noise - sigma * clean) / sqrt(1 + sigma^2), the target of "velocity" prediction."""
    sigma = over_frames(sigma)
    return (noise - sigma * clean) / (1 + sigma**2).sqrt()


def edm_loss(  # noqa: PLR0913, PLR0917 (the equation has that many terms)
    network: Network,
    config: EDMConfig,
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, " b"] | Float[Tensor, "b t"],
    denoise_mask: Bool[Tensor, "b t"] | None = None,
) -> Float[Tensor, " b"]:
    """Weighted squared error of each clip, averaged over its generated frames; given frames stay clean."""
    frames = clean.shape[2]
    sigma = sigma if sigma.ndim == 2 else sigma[:, None].expand(-1, frames)
    mask = torch.ones_like(sigma, dtype=torch.bool) if denoise_mask is None else denoise_mask
    latents = clean + over_frames(sigma * mask) * noise
    error = denoiser(network, config)(latents, sigma * mask).clean.float() - clean.float()
    weighted = loss_weight(config, sigma.clamp(min=config.sigma_min)) * (error**2).mean(dim=(1, 3, 4))
    return (weighted * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)


def adapting(name: str) -> bool:
    """Whether this parameter trains while an image network moves from discrete steps to continuous sigma."""
    return name.startswith("time_embedding.")
