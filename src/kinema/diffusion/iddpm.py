"""IDDPM: a discrete diffusion with a learned variance (Nichol and Dhariwal, arXiv:2102.09672)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from kinema.diffusion.protocols import Denoised
from kinema.diffusion.schedules import Tables, linear_betas, respaced_tables, spaced_timesteps

Space = Literal["noise", "clean", "velocity"]


@dataclass(frozen=True, kw_only=True)
class IDDPMConfig:
    """The process, what the network predicts, and the space in which its error is squared.

    `timesteps` "speed" draws and weighs the training steps as SpeeD does, "uniform" draws all alike.
    `loss_space` None: the space of the prediction. `max_loss_weight` limits the weight that a change of
    space gives to the nearly clean or nearly pure-noise timesteps.
    """

    kind: Literal["iddpm"] = "iddpm"
    steps: int = 1000
    timesteps: Literal["uniform", "speed"] = "uniform"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: Space = "noise"
    loss_space: Space | None = None
    max_loss_weight: float | None = None
    learned_variance: bool = True

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ValueError(f"steps must be at least 2, got {self.steps}")
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise ValueError(f"need 0 < beta_start <= beta_end < 1, got {self.beta_start}, {self.beta_end}")
        if self.max_loss_weight is not None and self.max_loss_weight <= 0:
            raise ValueError(f"max_loss_weight must be positive, got {self.max_loss_weight}")


def tables(config: IDDPMConfig, sampling_steps: int | None = None) -> Tables:
    """All steps for training, or the tables of a shorter process for sampling."""
    count = config.steps if sampling_steps is None else sampling_steps
    betas = linear_betas(config.steps, config.beta_start, config.beta_end)
    return respaced_tables(betas, spaced_timesteps(config.steps, count))


def gather(table: Float[Tensor, " n"], index: Int[Tensor, " b"]) -> Float[Tensor, "b 1 1 1 1"]:
    return rearrange(table[index], "b -> b 1 1 1 1")


@dataclass(frozen=True)
class NoisedLatents:
    """Latents at the steps `index` (times of a flow, or sigmas), with what they were made of."""

    latents: Float[Tensor, "b c t h w"]
    clean: Float[Tensor, "b c t h w"]
    noise: Float[Tensor, "b c t h w"]
    index: Tensor
    denoise_mask: Bool[Tensor, "b t"] | None = None

    def times(self, factor: Tensor) -> NoisedLatents:
        """The same in other units; with the output times it too, a squared error is weighed by its square."""
        latents, clean, noise = (part * factor for part in (self.latents, self.clean, self.noise))
        return replace(self, latents=latents, clean=clean, noise=noise)


def add_noise(
    tables: Tables,
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    index: Int[Tensor, " b"],
    denoise_mask: Bool[Tensor, "b t"] | None = None,
) -> NoisedLatents:
    """Latents at step `index`; frames with `denoise_mask` False stay exactly clean."""
    latents = noise_to(tables, clean, noise, index)
    if denoise_mask is not None:
        latents = torch.where(rearrange(denoise_mask, "b t -> b 1 t 1 1"), latents, clean)
    return NoisedLatents(latents, clean, noise, index, denoise_mask)


def noise_to(
    tables: Tables,
    clean: Float[Tensor, "b c t h w"],
    noise: Float[Tensor, "b c t h w"],
    index: Int[Tensor, " b"],
) -> Float[Tensor, "b c t h w"]:
    """Every frame at step `index`."""
    signal = gather(tables.sqrt_alphas_cumprod, index)
    return signal * clean + gather(tables.sqrt_one_minus_alphas_cumprod, index) * noise


def split_output(
    config: IDDPMConfig, output: Float[Tensor, "b c2 t h w"]
) -> tuple[Float[Tensor, "b c t h w"], Float[Tensor, "b c t h w"] | None]:
    """The prediction, and the raw variance values in about [-1, 1] when they are learned."""
    if not config.learned_variance:
        return output, None
    prediction, variance = output.chunk(2, dim=1)
    return prediction, variance


def clean_from_prediction(
    config: IDDPMConfig,
    tables: Tables,
    prediction: Float[Tensor, "b c t h w"],
    noised: Float[Tensor, "b c t h w"],
    index: Int[Tensor, " b"],
) -> Float[Tensor, "b c t h w"]:
    """The clean latents that a prediction stands for."""
    match config.prediction:
        case "clean":
            return prediction
        case "noise":
            signal = gather(tables.sqrt_recip_alphas_cumprod, index)
            return signal * noised - gather(tables.sqrt_recipm1_alphas_cumprod, index) * prediction
        case "velocity":
            signal = gather(tables.sqrt_alphas_cumprod, index)
            return signal * noised - gather(tables.sqrt_one_minus_alphas_cumprod, index) * prediction


def denoised_from_output(
    config: IDDPMConfig,
    output: Float[Tensor, "b c2 t h w"],
    latents: Float[Tensor, "b c t h w"],
    sigma: Float[Tensor, "b t"],
) -> Denoised:
    """What the network's output says at the seam (`latents` = clean + sigma noise).

    A given frame (sigma 0) is its own clean estimate, whatever the network says.
    """
    prediction, variance = split_output(config, output)
    frame_sigma = rearrange(sigma, "b t -> b 1 t 1 1")
    match config.prediction:
        case "clean":
            clean = torch.where(frame_sigma > 0, prediction, latents)
        case "noise":
            clean = latents - frame_sigma * prediction
        case "velocity":
            inverse = 1 / (1 + frame_sigma**2)
            clean = latents * inverse - frame_sigma * inverse.sqrt() * prediction
    return Denoised(clean, None if variance is None else (variance + 1) / 2)


def network_latents(
    latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]
) -> Float[Tensor, "b c t h w"]:
    """From the seam's clean + sigma noise to the unit-variance latents that the network is trained on."""
    return latents * rearrange(1 / (1 + sigma**2).sqrt(), "b t -> b 1 t 1 1")


def timestep_from_sigma(full: Tables, sigma: Float[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """The nearest timestep of each frame; `full` are the training tables."""
    level = sigma.clamp_min(full.sigma[0]).contiguous()
    above = torch.searchsorted(full.sigma, level).clamp(1, len(full) - 1)
    low, high = full.sigma[above - 1].log(), full.sigma[above].log()
    return torch.where(level.log() - low < high - level.log(), above - 1, above)


def losses(
    config: IDDPMConfig,
    tables: Tables,
    output: Float[Tensor, "b c2 t h w"],
    noised: NoisedLatents,
    step_weights: Float[Tensor, " n"] | None = None,
) -> dict[str, Float[Tensor, " b"]]:
    """`mse`, `vb` (bits of the variational bound, if the variance is learned) and their sum `loss`.

    Each is one number per element, over the generated frames. `step_weights` scale the mse of each step.
    """
    prediction, variance = split_output(config, output)
    error = (prediction - _target(config, tables, noised)).square()
    mse = masked_mean(error, noised.denoise_mask) * _space_weight(config, tables, noised.index)
    if step_weights is not None:
        mse = mse * step_weights[noised.index]
    if variance is None:
        return {"mse": mse, "loss": mse}
    estimate = clean_from_prediction(config, tables, prediction.detach(), noised.latents, noised.index)
    bound = variational_bound(tables, estimate, variance, noised)
    vb = masked_mean(bound, noised.denoise_mask)
    return {"mse": mse, "vb": vb, "loss": mse + vb}


def _target(config: IDDPMConfig, tables: Tables, noised: NoisedLatents) -> Tensor:
    match config.prediction:
        case "noise":
            return noised.noise
        case "clean":
            return noised.clean
        case "velocity":
            signal = gather(tables.sqrt_alphas_cumprod, noised.index)
            amount = gather(tables.sqrt_one_minus_alphas_cumprod, noised.index)
            return signal * noised.noise - amount * noised.clean


def _space_weight(config: IDDPMConfig, tables: Tables, index: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
    """Errors in the three spaces are multiples of each other: the squared ratio, per step."""
    alphas = tables.alphas_cumprod[index]
    per_clean_error: dict[Space, Tensor] = {
        "clean": torch.ones_like(alphas),
        "noise": alphas / (1 - alphas),
        "velocity": 1 / (1 - alphas),
    }
    space = config.loss_space or config.prediction
    weight = per_clean_error[space] / per_clean_error[config.prediction]
    return weight if config.max_loss_weight is None else weight.clamp_max(config.max_loss_weight)


def masked_mean(
    values: Float[Tensor, "b c t h w"], denoise_mask: Bool[Tensor, "b t"] | None
) -> Float[Tensor, " b"]:
    """Mean per element over the frames to be generated."""
    per_frame = values.mean(dim=(1, 3, 4))
    if denoise_mask is None:
        return per_frame.mean(1)
    return (per_frame * denoise_mask).sum(1) / denoise_mask.sum(1).clamp_min(1)


@dataclass(frozen=True)
class Step:
    """The distribution of the step before `index`."""

    mean: Float[Tensor, "b c t h w"]
    log_variance: Float[Tensor, "b c t h w"]


def reverse_step(
    tables: Tables,
    estimate: Float[Tensor, "b c t h w"],
    variance_fraction: Float[Tensor, "b c t h w"] | None,
    noised: Float[Tensor, "b c t h w"],
    index: Int[Tensor, " b"],
) -> Step:
    """One step back from `noised`, if `estimate` were the clean latents.

    The log variance lies between the posterior's and beta's, at the learned fraction (else the posterior's).
    """
    mean = (
        gather(tables.posterior_mean_coef1, index) * estimate
        + gather(tables.posterior_mean_coef2, index) * noised
    )
    low = gather(tables.posterior_log_variance_clipped, index)
    if variance_fraction is None:
        return Step(mean, low.expand_as(mean))
    high = gather(tables.betas.log(), index)
    return Step(mean, variance_fraction * high + (1 - variance_fraction) * low)


def variational_bound(
    tables: Tables,
    estimate: Float[Tensor, "b c t h w"],
    variance: Float[Tensor, "b c t h w"],
    noised: NoisedLatents,
) -> Float[Tensor, "b c t h w"]:
    """Bits per value: KL to the true step, or the likelihood of the clean latents at the first step."""
    clean, index = noised.clean, noised.index
    truth = reverse_step(tables, clean, None, noised.latents, index)
    model = reverse_step(tables, estimate, (variance + 1) / 2, noised.latents, index)
    divergence = _gaussian_kl(truth, model)
    likelihood = _discrete_log_likelihood(clean, model)
    first = rearrange(index == 0, "b -> b 1 1 1 1")
    return torch.where(first, -likelihood, divergence) / math.log(2)


def _gaussian_kl(truth: Step, model: Step) -> Tensor:
    spread = torch.exp(truth.log_variance - model.log_variance)
    offset = (truth.mean - model.mean).square() * torch.exp(-model.log_variance)
    return 0.5 * (model.log_variance - truth.log_variance - 1 + spread + offset)


def _discrete_log_likelihood(clean: Tensor, model: Step) -> Tensor:
    """Log probability of the bin of width 2/255 around each value, the outer bins being open."""
    centred, inverse_std = clean - model.mean, torch.exp(-0.5 * model.log_variance)
    below = _normal_cdf(inverse_std * (centred + 1 / 255))
    above = _normal_cdf(inverse_std * (centred - 1 / 255))
    inner = torch.where(clean > 0.999, 1 - above, below - above)
    return torch.where(clean < -0.999, below, inner).clamp_min(1e-12).log()


def _normal_cdf(values: Tensor) -> Tensor:
    """The usual tanh approximation."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (values + 0.044715 * values**3)))
