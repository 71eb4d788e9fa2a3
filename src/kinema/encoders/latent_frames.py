"""Frames and latent frames of an autoencoder that compresses time.

With a temporal factor n, the first latent frame holds the first frame alone and each later one holds n
frames: 1 + n k frames are 1 + k latent frames. An image is one latent frame, whatever the factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor


def latent_frames(frames: int, factor: int) -> int:
    """Latent frames that hold so many frames; the last may be filled up."""
    return 1 + -(-(frames - 1) // factor)


def whole_frames(frames: int, factor: int) -> int:
    """The next number of frames, `frames` or more, that fills its latent frames."""
    return 1 + (latent_frames(frames, factor) - 1) * factor


@dataclass(frozen=True)
class TimeGrid:
    """Latent frames over the frames of a clip; the last latent frame stands for what is left."""

    factor: int

    def count(self, frames: int) -> int:
        """Latent frames of a clip."""
        return latent_frames(frames, self.factor)

    def span(self, index: int, frames: int) -> tuple[int, int]:
        """The frames, first and past the last, that a latent frame of a clip stands for."""
        stop = 1 + index * self.factor
        return max(0, stop - self.factor), min(stop, frames)

    def up(self, frames: int) -> int:
        """The next number of frames, `frames` or more, that fills its latent frames."""
        return whole_frames(frames, self.factor)

    def down(self, frames: int) -> int:
        """The last number of frames, `frames` or fewer, that fills its latent frames."""
        return 1 + (frames - 1) // self.factor * self.factor


def fill_up(video: Float[Tensor, "b c t h w"], factor: int) -> Float[Tensor, "b c t2 h w"]:
    """Repeat the last frame until the latent frames are full."""
    missing = whole_frames(video.shape[2], factor) - video.shape[2]
    return torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2) if missing else video


def latent_mask(denoise_mask: Bool[Tensor, "b t"], factor: int) -> Bool[Tensor, "b t2"]:
    """The mask of the latent frames: one is given (False) only when all of its frames are."""
    missing = whole_frames(denoise_mask.shape[1], factor) - denoise_mask.shape[1]
    # Frames that are only there to fill up decide nothing.
    filled = torch.cat([denoise_mask, denoise_mask.new_zeros(len(denoise_mask), missing)], dim=1)
    later = rearrange(filled[:, 1:], "b (t n) -> b t n", n=factor).any(-1)
    return torch.cat([filled[:, :1], later], dim=1)
