"""What given frames tell about the frames around them, before a network is asked."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from kinema.nn.products import Linear


class GivenGate(nn.Module):
    """Where a generated frame is what the given frames around it show, and where it is made anew.

    A share for each place of the latents: 1 takes the linear blend over time of the given frames before and
    after (one of them where the other is missing), 0 what the network makes. It begins near 0.
    """

    def __init__(self, width: int, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        pt, ph, pw = patch_size
        self.linear = Linear(width, pt * ph * pw)

    def forward(self, tokens: Float[Tensor, "b t s d"]) -> Float[Tensor, "b t s p"]:
        """Logits, one for each place of a patch."""
        logits: Tensor = self.linear(tokens)
        return logits - 3


def take_given(
    made: Float[Tensor, "b c t h w"],
    logits: Float[Tensor, "b 1 t h w"],
    latents: Float[Tensor, "b c t h w"],
    denoise_mask: Bool[Tensor, "b t"] | None,
) -> Float[Tensor, "b c t h w"]:
    """Mix the blend of the given frames of `latents`, if there are any, into clean latents that were made."""
    if denoise_mask is None:
        return made
    share = logits.sigmoid() * rearrange(~denoise_mask.all(1), "b -> b 1 1 1 1")
    return torch.lerp(made, blend_of_given(latents, denoise_mask), share)


def blend_of_given(
    latents: Float[Tensor, "b c t h w"], denoise_mask: Bool[Tensor, "b t"]
) -> Float[Tensor, "b c t h w"]:
    """For each frame the nearest given ones before and after it, weighed by how near they are.

    Where only one side has one, that one; a row without any gives its own first frame, which means nothing.
    """
    before, after = given_around(denoise_mask)
    place = torch.arange(denoise_mask.shape[1], device=latents.device)
    weight = (place - before) / (after - before).clamp_min(1)
    return torch.lerp(
        frames_at(latents, before), frames_at(latents, after), rearrange(weight, "b t -> b 1 t 1 1")
    )


def given_around(denoise_mask: Bool[Tensor, "b t"]) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """The nearest given frames before and after each frame: itself where it is given, the one on the other
    side where a side has none."""
    frames = denoise_mask.shape[1]
    place = torch.arange(frames, device=denoise_mask.device).expand_as(denoise_mask)
    before = torch.where(denoise_mask, -1, place).cummax(1).values
    after = torch.where(denoise_mask, frames, place).flip(1).cummin(1).values.flip(1)
    before, after = torch.where(before < 0, after, before), torch.where(after >= frames, before, after)
    return before.clamp(0, frames - 1), after.clamp(0, frames - 1)


def frames_at(latents: Float[Tensor, "b c t h w"], frames: Int[Tensor, "b t"]) -> Float[Tensor, "b c t h w"]:
    """The frames of these numbers, row by row."""
    return latents.gather(2, rearrange(frames, "b t -> b 1 t 1 1").expand_as(latents))
