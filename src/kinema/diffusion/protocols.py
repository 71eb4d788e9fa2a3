"""The seam between networks and samplers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Denoised:
    """An estimate of the clean latents, and, where the process learns one, the variance of the step.

    `variance_fraction` lies between 0 (the posterior's variance) and 1 (the forward step's), in log space.
    """

    clean: Float[Tensor, "b c t h w"]
    variance_fraction: Float[Tensor, "b c t h w"] | None = None


Denoise = Callable[[Float[Tensor, "b c t h w"], Float[Tensor, "b t"]], Denoised]
"""`denoise(latents, sigma)`: latents are clean + sigma * noise, frame by frame; a given frame has sigma 0."""

Draw = Callable[[], Float[Tensor, "b c t h w"]]
"""The next standard normal tensor."""
