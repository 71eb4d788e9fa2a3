"""PSNR in closed form; SSIM against torchmetrics, and its fixed points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinema.evaluate.reference_metrics import psnr, ssim


def noise(seed: int, frames: int = 2, height: int = 24, width: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def test_psnr_of_a_constant_error_is_closed_form() -> None:
    dark = np.full((3, 16, 16, 3), 100, dtype=np.uint8)
    assert psnr(dark, dark + 10) == pytest.approx(20 * np.log10(25.5))
    assert psnr(dark, dark) == 100.0
    mixed = dark.copy()
    mixed[0] += 10
    assert psnr(mixed, dark) == pytest.approx((20 * np.log10(25.5) + 200) / 3)


def test_ssim_is_one_for_equal_symmetric_and_low_for_noise() -> None:
    assert ssim(noise(0), noise(0)) == pytest.approx(1.0)
    assert ssim(noise(0), noise(1)) == pytest.approx(ssim(noise(1), noise(0)))
    assert abs(ssim(noise(0), noise(1))) < 0.1


def test_ssim_of_flat_frames_is_the_light_term() -> None:
    one, other = np.full((1, 16, 16, 3), 100, np.uint8), np.full((1, 16, 16, 3), 150, np.uint8)
    light = (0.01 * 255) ** 2
    assert ssim(one, other) == pytest.approx((2 * 100 * 150 + light) / (100**2 + 150**2 + light))


def test_ssim_agrees_with_torchmetrics() -> None:
    functional = pytest.importorskip(
        "torchmetrics.functional.image", reason="torchmetrics is a dev dependency"
    )
    frames = noise(2)
    other = np.clip(frames.astype(int) + np.random.default_rng(3).normal(0, 20, frames.shape), 0, 255).astype(
        np.uint8
    )
    one, two = (torch.from_numpy(part).permute(0, 3, 1, 2).double() for part in (frames, other))
    _, places = functional.structural_similarity_index_measure(
        one, two, data_range=255.0, sigma=1.5, kernel_size=11, return_full_image=True
    )
    inside = places[..., 5:-5, 5:-5]  # the rest leans on reflected borders
    assert ssim(frames, other) == pytest.approx(float(inside.mean()), abs=1e-9)


def test_shapes_must_agree_and_hold_a_window() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        psnr(noise(0), noise(0, frames=3))
    with pytest.raises(ValueError, match="at least 11 x 11"):
        ssim(noise(0, height=8), noise(0, height=8))
