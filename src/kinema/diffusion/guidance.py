"""Classifier-free guidance."""

from __future__ import annotations

import torch

from kinema.diffusion.protocols import Denoised


def guide(
    conditional: Denoised, unconditional: Denoised, scale: float, channels: int | None = None
) -> Denoised:
    """Push the estimate away from the unconditional one; scale 1 is off.

    Only the first `channels` channels are guided (None: all): the published sampler guides three of four.
    The variance is the conditional one.
    """
    guided = torch.lerp(unconditional.clean, conditional.clean, scale)
    if channels is not None:
        guided = torch.cat([guided[:, :channels], conditional.clean[:, channels:]], dim=1)
    return Denoised(guided, conditional.variance_fraction)


def split_pair(pair: Denoised) -> tuple[Denoised, Denoised]:
    """The two halves of one forward pass over conditional rows, then unconditional rows."""
    conditional, unconditional = pair.clean.chunk(2)
    if pair.variance_fraction is None:
        return Denoised(conditional), Denoised(unconditional)
    first, second = pair.variance_fraction.chunk(2)
    return Denoised(conditional, first), Denoised(unconditional, second)
