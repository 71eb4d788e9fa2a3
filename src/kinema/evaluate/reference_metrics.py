"""How near frames are to given ones."""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from kinema.video.likeness import check_same_shape, psnr

__all__ = ["psnr", "ssim"]

WINDOW, SPREAD = 11, 1.5


def ssim(frames: UInt8[np.ndarray, "t h w c"], reference: UInt8[np.ndarray, "t h w c"]) -> float:
    """Structural similarity (Wang 2004): 11 x 11 Gaussian window of 1.5 pixels, K = 0.01, 0.03.

    Mean over channels, frames and all places where the window lies inside the frame.
    """
    check_same_shape(frames, reference)
    if min(frames.shape[1:3]) < WINDOW:
        raise ValueError(f"SSIM needs frames of at least {WINDOW} x {WINDOW} pixels, got {frames.shape[1:3]}")
    values = [_ssim_frame(one, other) for one, other in zip(frames, reference, strict=True)]
    return float(np.mean(values))


def _ssim_frame(frame: UInt8[np.ndarray, "h w c"], reference: UInt8[np.ndarray, "h w c"]) -> float:
    x, y = (rearrange(torch.from_numpy(part).double(), "h w c -> c 1 h w") for part in (frame, reference))
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    joint = _blur(x * y) - mean_x * mean_y
    light, contrast = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + light) * (2 * joint + contrast)
    norm = (mean_x**2 + mean_y**2 + light) * (variance_x + variance_y + contrast)
    return float((similarity / norm).mean())


def _blur(image: Float[Tensor, "c 1 h w"]) -> Float[Tensor, "c 1 h2 w2"]:
    place = torch.arange(WINDOW, dtype=image.dtype) - WINDOW // 2
    window = torch.exp(-((place / SPREAD) ** 2) / 2)
    window = window / window.sum()
    rows = functional.conv2d(image, window.view(1, 1, -1, 1))
    return functional.conv2d(rows, window.view(1, 1, 1, -1))
