"""Noise schedules as tables, one entry per step of a discrete process."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Float32 tables of a discrete process of n steps; `timestep_map` is what the network is told.

    With x_t = sqrt(alphas_cumprod) clean + sqrt(1 - alphas_cumprod) noise, the posterior q(x_{t-1} | x_t,
    clean) has the mean `posterior_mean_coef1` clean + `posterior_mean_coef2` x_t.
    """

    betas: Float[Tensor, " n"]
    alphas_cumprod: Float[Tensor, " n"]
    alphas_cumprod_prev: Float[Tensor, " n"]
    sqrt_alphas_cumprod: Float[Tensor, " n"]
    sqrt_one_minus_alphas_cumprod: Float[Tensor, " n"]
    log_one_minus_alphas_cumprod: Float[Tensor, " n"]
    sqrt_recip_alphas_cumprod: Float[Tensor, " n"]
    sqrt_recipm1_alphas_cumprod: Float[Tensor, " n"]
    posterior_variance: Float[Tensor, " n"]
    posterior_log_variance_clipped: Float[Tensor, " n"]
    posterior_mean_coef1: Float[Tensor, " n"]
    posterior_mean_coef2: Float[Tensor, " n"]
    timestep_map: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.betas)

    @property
    def sigma(self) -> Float[Tensor, " n"]:
        """Noise per unit of signal at each step: x_t / sqrt(alphas_cumprod) = clean + sigma noise."""
        return self.sqrt_recipm1_alphas_cumprod

    def to(self, device: torch.device | str) -> Tables:
        return Tables(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def linear_betas(steps: int, start: float, end: float) -> Float[Tensor, " n"]:
    """Betas from `start` to `end` for 1000 steps (scaled for other counts), in float64."""
    scale = 1000 / steps
    return torch.linspace(scale * start, scale * end, steps, dtype=torch.float64)


def spaced_timesteps(steps: int, count: int) -> list[int]:
    """`count` of `steps` timesteps, evenly spaced from the first to the last; one alone is the last."""
    if not 1 <= count <= steps:
        raise ValueError(f"sampling steps must be in 1..{steps}, got {count}")
    if count == 1:
        return [steps - 1]
    stride, place, chosen = (steps - 1) / (count - 1), 0.0, []
    for _ in range(count):
        chosen.append(round(place))
        place += stride
    return chosen


def respaced_tables(betas: Float[Tensor, " n"], timesteps: list[int]) -> Tables:
    """Tables of the process that visits only `timesteps` of the one defined by `betas` (float64).

    As published, all after the new betas is float32, also when no step is left out.
    """
    cumulative = torch.cumprod(1 - betas.double(), 0)[timesteps]
    previous = torch.cat([cumulative.new_ones(1), cumulative[:-1]])
    new_betas = (1 - cumulative / previous).float()
    alphas_cumprod = torch.cumprod(1 - new_betas, 0)
    alphas_cumprod_prev = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    variance = new_betas * (1 - alphas_cumprod_prev) / (1 - alphas_cumprod)
    return Tables(
        betas=new_betas,
        alphas_cumprod=alphas_cumprod,
        alphas_cumprod_prev=alphas_cumprod_prev,
        sqrt_alphas_cumprod=alphas_cumprod.sqrt(),
        sqrt_one_minus_alphas_cumprod=(1 - alphas_cumprod).sqrt(),
        log_one_minus_alphas_cumprod=(1 - alphas_cumprod).log(),
        sqrt_recip_alphas_cumprod=(1 / alphas_cumprod).sqrt(),
        sqrt_recipm1_alphas_cumprod=(1 / alphas_cumprod - 1).sqrt(),
        posterior_variance=variance,
        # The variance of the first step is 0: its logarithm is taken from the second.
        posterior_log_variance_clipped=torch.cat([variance[1:2], variance[1:]]).log()
        if len(timesteps) > 1
        else new_betas.log(),
        posterior_mean_coef1=new_betas * alphas_cumprod_prev.sqrt() / (1 - alphas_cumprod),
        posterior_mean_coef2=(1 - alphas_cumprod_prev) * (1 - new_betas).sqrt() / (1 - alphas_cumprod),
        timestep_map=torch.tensor(timesteps),
    )
