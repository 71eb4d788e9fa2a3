"""High dynamic range to the SDR pixels that the networks are trained on."""

from __future__ import annotations

from enum import IntEnum
from functools import cache

import numpy as np
from jaxtyping import Float, UInt8, UInt16


class Transfer(IntEnum):
    """Transfer characteristics that need tone mapping (numbers of ITU-T H.273)."""

    PQ = 16
    HLG = 18


_REFERENCE_WHITE_NITS = 203.0  # ITU-R BT.2408: diffuse white in HDR
_HLG_PEAK_NITS = 1000.0
_KNEE = 0.75
_DISPLAY_GAMMA = 2.2
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], dtype=np.float32
)
_ENCODED_STEPS = 4095


def tone_map(frame: UInt16[np.ndarray, "h w 3"], transfer: Transfer) -> UInt8[np.ndarray, "h w 3"]:
    """BT.2020 PQ or HLG code values to 8-bit SDR: linear below the knee, soft above it.

    1.0 is diffuse white (203 nits); the brightest channel decides the scale, so that hues stay.
    """
    light = _linear_table(transfer)[frame]
    if transfer is Transfer.HLG:
        light *= _hlg_system_gain(light)
    light = np.maximum(light @ _BT2020_TO_BT709.T, 0.0)
    peak = np.maximum(light.max(axis=-1, keepdims=True), 1e-6)
    light *= _soft_knee(peak) / peak
    encoded: UInt8[np.ndarray, "h w 3"] = _encode_table()[np.rint(light * _ENCODED_STEPS).astype(np.int32)]
    return encoded


def _soft_knee(light: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    above = np.maximum(light - _KNEE, 0.0) / (1 - _KNEE)
    soft: Float[np.ndarray, "*n"] = np.minimum(light, _KNEE) + (1 - _KNEE) * (1 - np.exp(-above))
    return soft


def _hlg_system_gain(scene: Float[np.ndarray, "h w 3"]) -> Float[np.ndarray, "h w 1"]:
    """Scene light to display light in units of diffuse white: the OOTF of BT.2100 with gamma 1.2."""
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
    gain: Float[np.ndarray, "h w"] = (
        _HLG_PEAK_NITS / _REFERENCE_WHITE_NITS * np.maximum(luminance, 1e-6) ** 0.2
    )
    return gain.astype(np.float32)[..., None]


@cache
def _linear_table(transfer: Transfer) -> Float[np.ndarray, " 65536"]:
    signal = np.arange(65536, dtype=np.float64) / 65535
    match transfer:
        case Transfer.PQ:
            power = signal ** (1 / 78.84375)
            nits = 10000 * (np.maximum(power - 0.8359375, 0) / (18.8515625 - 18.6875 * power)) ** (
                1 / 0.1593017578125
            )
            return (nits / _REFERENCE_WHITE_NITS).astype(np.float32)
        case Transfer.HLG:
            bright = (np.exp((signal - 0.55991073) / 0.17883277) + 0.28466892) / 12
            return np.where(signal <= 0.5, signal**2 / 3, bright).astype(np.float32)


@cache
def _encode_table() -> UInt8[np.ndarray, " n"]:
    light = np.arange(_ENCODED_STEPS + 1) / _ENCODED_STEPS
    encoded: UInt8[np.ndarray, " n"] = np.rint(255 * light ** (1 / _DISPLAY_GAMMA)).astype(np.uint8)
    return encoded
