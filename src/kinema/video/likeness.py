"""How near frames are to given ones, pixel by pixel."""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

PSNR_OF_EQUAL_FRAMES = 100.0


def psnr(frames: UInt8[np.ndarray, "t h w c"], reference: UInt8[np.ndarray, "t h w c"]) -> float:
    """Mean over frames of 10 log10(255^2 / mse), in dB; frames that are equal count as 100 dB."""
    check_same_shape(frames, reference)
    error = (frames.astype(np.float64) - reference.astype(np.float64)) ** 2
    mse = error.reshape(len(frames), -1).mean(axis=1)
    least = 255.0**2 / 10 ** (PSNR_OF_EQUAL_FRAMES / 10)
    return float((10 * np.log10(255.0**2 / np.maximum(mse, least))).mean())


def check_same_shape(frames: UInt8[np.ndarray, "t h w c"], reference: UInt8[np.ndarray, "t h w c"]) -> None:
    """Raise `ValueError` unless both have the same shape and a frame."""
    if frames.shape != reference.shape or not len(frames):
        raise ValueError(
            f"frames {frames.shape} and reference {reference.shape} differ in shape or are empty"
        )
