"""A model and what it is told as one `Denoise`, and clips sampled with it."""

from __future__ import annotations

from kinema.denoiser.conditions import VideoShape, condition
from kinema.denoiser.guided import build_denoise
from kinema.denoiser.sampling import (
    Given,
    OnStep,
    Sampler,
    default_sampler,
    sample_latents,
)
from kinema.nn.precision import Precision

__all__ = [
    "Given",
    "OnStep",
    "Precision",
    "Sampler",
    "VideoShape",
    "build_denoise",
    "condition",
    "default_sampler",
    "sample_latents",
]
