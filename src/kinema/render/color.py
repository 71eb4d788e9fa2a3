"""sRGB pixels and linear light."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def to_linear(values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """sRGB 0..1 to linear 0..1 (IEC 61966-2-1)."""
    clipped = np.clip(values, 0, 1)
    return np.asarray(np.where(clipped <= 0.04045, clipped / 12.92, ((clipped + 0.055) / 1.055) ** 2.4))


def to_srgb(values: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Linear to sRGB 0..1; what is brighter than 1 is clipped."""
    clipped = np.clip(values, 0, 1)
    return np.asarray(np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055))
