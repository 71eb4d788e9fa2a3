"""Continuous-sigma diffusion: preconditioning, noise distribution, loss (Karras et al. 2022, equations 7, 8).

Latents are clean + sigma * noise. Sigma is per clip (`b`) or per frame (`b t`); 0 marks a given frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.diffusion.iddpm import NoisedLatents, masked_mean
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
    or "timestep" (the nearest of an image model's 1000 discrete steps). ln(sigma) ~ N(p_mean, p_std^2), at
    `base_area` latent places (h w) if that is set: more places shift it to more noise.
    """

    kind: Literal["edm"] = "edm"
    prediction: Literal["velocity", "edm", "noise"] = "velocity"
    told: Literal["log", "sigma", "timestep"] = "log"
    sigma_data: float = 1.0
    p_mean: float = -1.2
    p_std: float = 1.0
    sigma_min: float = 0.002
    sigma_max: float = 700.0
    base_area: int | None = None

    def __post_init__(self) -> None:
        if self.base_area is not None and self.base_area < 1:
            raise ValueError(f"base_area must be at least 1, got {self.base_area}")
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


def told(config: EDMConfig, sigma: Tensor) -> Tensor:
    """What the network hears of each frame; a given one (sigma 0) counts as `sigma_min`."""
    return c_noise(config, sigma.clamp(min=config.sigma_min))


def network_latents(
    config: EDMConfig, latents: Float[Tensor, "b c t h w"], sigma: Tensor
) -> Float[Tensor, "b c t h w"]:
    """From the seam's clean + sigma noise to what the network gets: unit variance, or `sigma_data`'s."""
    return latents * over_frames(scales(config, sigma).c_in)


def denoised_from_output(
    config: EDMConfig,
    output: Float[Tensor, "b c t h w"],
    latents: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, "b t"],
) -> Denoised:
    """What the network's output says at the seam; frames at sigma 0 come back as they were."""
    at = scales(config, sigma.clamp(min=config.sigma_min))
    clean = over_frames(at.c_skip) * latents + over_frames(at.c_out) * output
    return Denoised(torch.where(over_frames(sigma == 0), latents, clean))


def denoiser(network: Network, config: EDMConfig) -> Denoise:
    """Around a network, the seam that samplers know."""

    def denoise(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        output = network(network_latents(config, latents, sigma), told(config, sigma))
        return denoised_from_output(config, output, latents, sigma)

    return denoise


def over_frames(values: Tensor) -> Tensor:
    """`b` or `b t` -> `b 1 t 1 1`, beside latents."""
    return rearrange(values if values.ndim == 2 else values[:, None], "b t -> b 1 t 1 1")


def draw_sigma(config: EDMConfig, area: int, generator: torch.Generator) -> Float[Tensor, ""]:
    """One sigma for all frames of a clip of `area` latent places: exp(N(p_mean, p_std^2)), shifted."""
    normal = torch.randn((), generator=generator, device=generator.device)
    return (config.p_mean + shift(config, area) + config.p_std * normal).exp()


def shift(config: EDMConfig, area: int) -> float:
    """How much ln(sigma) rises for latents of `area` places: half the log of the ratio of areas.

    Neighbours agree more in a larger picture; the noise that is left after averaging down stays what it was.
    """
    return 0.0 if config.base_area is None else 0.5 * math.log(area / config.base_area)


def noise_share(config: EDMConfig, sigma: Tensor) -> Tensor:
    """The share of training draws with less noise than this, from 0 to 1."""
    if config.p_std == 0:
        return torch.full_like(sigma, 0.5)
    normal = (sigma.log() - config.p_mean) / config.p_std
    return 0.5 * (1 + torch.erf(normal / math.sqrt(2)))


def augmentation_sigma(generator: torch.Generator, mean: float = -3.0, std: float = 0.5) -> Float[Tensor, ""]:
    """Noise for the conditioning frame: exp(N(-3, 0.5^2)), told to the network as it is."""
    return (mean + std * torch.randn((), generator=generator, device=generator.device)).exp()


def velocity(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """v = (noise - sigma * clean) / sqrt(1 + sigma^2), the target of "velocity" prediction."""
    sigma = over_frames(sigma)
    return (noise - sigma * clean) / (1 + sigma**2).sqrt()


def add_noise(
    config: EDMConfig,
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, " b"] | Float[Tensor, "b t"],
    denoise_mask: Bool[Tensor, "b t"] | None = None,
) -> NoisedLatents:
    """Latents as the network gets them; frames with `denoise_mask` False stay clean (but for c_in)."""
    level = frame_sigma(sigma, clean.shape[2], denoise_mask)
    latents = network_latents(config, clean + over_frames(level) * noise, level)
    return NoisedLatents(latents, clean, noise, sigma, denoise_mask)


def frame_sigma(sigma: Tensor, frames: int, denoise_mask: Bool[Tensor, "b t"] | None) -> Float[Tensor, "b t"]:
    """The sigma of each frame: 0 for a given one."""
    level = sigma if sigma.ndim == 2 else sigma[:, None].expand(-1, frames)
    return level if denoise_mask is None else level * denoise_mask


def losses(
    config: EDMConfig, output: Float[Tensor, "b c t h w"], noised: NoisedLatents
) -> dict[str, Float[Tensor, " b"]]:
    """`mse` of the network's own output over the generated frames, which is the `loss`.

    It is the error of the clean estimate, weighted by 1 / c_out^2.
    """
    mse = masked_mean((output - _target(config, noised)).square(), noised.denoise_mask)
    return {"mse": mse, "loss": mse}


def _target(config: EDMConfig, noised: NoisedLatents) -> Float[Tensor, "b c t h w"]:
    """(clean - c_skip latents) / c_out, written out: small sigmas would cancel."""
    clean, noise, sigma = noised.clean, noised.noise, over_frames(noised.index)
    match config.prediction:
        case "velocity":
            return velocity(clean, noise, noised.index)
        case "edm":
            scale = config.sigma_data * (sigma**2 + config.sigma_data**2).sqrt()
            return (sigma * clean - config.sigma_data**2 * noise) / scale
        case "noise":
            return noise


def adapting(name: str) -> bool:
    """Whether this parameter trains while an image network moves from discrete steps to continuous sigma."""
    return name.startswith("time_embedding.")
