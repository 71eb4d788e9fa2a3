"""Between decoded frames (uint8 `t h w c`) and the video that networks see (float `c t h w` in [-1, 1])."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.shapes import Size
from kinema.video.pixels import scale


def cover(height: int, width: int, size: Size) -> Size:
    """The smallest size of the same shape that covers `size`."""
    scale = max(size.height / height, size.width / width)
    return Size(
        height=max(size.height, round(height * scale)),
        width=max(size.width, round(width * scale)),
    )


def resize_crop(frames: UInt8[np.ndarray, "t h w c"], size: Size) -> UInt8[np.ndarray, "t h2 w2 c"]:
    """Scale to cover `size` (area average when smaller, so nothing aliases), then crop the centre."""
    height, width = frames.shape[1:3]
    covering = cover(height, width, size)
    top = (covering.height - size.height) // 2
    left = (covering.width - size.width) // 2
    scaled = np.stack([scale(frame, covering) for frame in frames])
    return np.ascontiguousarray(scaled[:, top : top + size.height, left : left + size.width])


def to_video(frames: UInt8[np.ndarray, "t h w c"]) -> Float[Tensor, "c t h w"]:
    """Pixels 0..255 to -1..1."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).float()
    return rearrange(pixels / 127.5 - 1.0, "t h w c -> c t h w").contiguous()


def to_frames(video: Float[Tensor, "c t h w"]) -> UInt8[np.ndarray, "t h w c"]:
    """Back to pixels; what lies outside -1..1 is clipped."""
    pixels = ((video.detach().float().cpu() + 1.0) * 127.5).round().clamp(0, 255).to(torch.uint8)
    frames: UInt8[np.ndarray, "t h w c"] = rearrange(pixels, "c t h w -> t h w c").contiguous().numpy()
    return frames
