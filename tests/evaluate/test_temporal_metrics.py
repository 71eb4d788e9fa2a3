"""Metrics of one video on videos whose answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kinema.evaluate.temporal_metrics import (
    appearance_drift,
    camera_motion,
    first_frame_fidelity,
    motion_amount,
    small,
    temporal_flicker,
    warp_error,
)


def texture(height: int = 200, width: int = 260) -> np.ndarray:
    rough = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC)


def moving(step_x: int = 0, step_y: int = 0, count: int = 8) -> np.ndarray:
    """A window that slides over a texture: the camera pans by (step_x, step_y) a frame."""
    whole = texture()
    return np.stack([whole[50 + n * step_y :, 50 + n * step_x :][:90, :120] for n in range(count)])


def zooming(rate: float, count: int = 8) -> np.ndarray:
    whole = texture()[:120, :160]
    turns = [cv2.getRotationMatrix2D((79.5, 59.5), 0, rate**n) for n in range(count)]
    return np.stack(
        [cv2.warpAffine(whole, turn, (160, 120), borderMode=cv2.BORDER_REFLECT) for turn in turns]
    )


STILL = np.repeat(texture()[None, :90, :120], 8, axis=0)


def test_flicker_ignores_stills_and_even_fades_and_measures_alternation() -> None:
    fade = np.stack([np.full((16, 16, 3), 100 + 3 * n, np.uint8) for n in range(8)])
    blink = np.stack([np.full((16, 16, 3), 100 + 10 * (-1) ** n, np.uint8) for n in range(8)])
    assert temporal_flicker(STILL) == 0
    assert temporal_flicker(fade) == pytest.approx(0)
    assert temporal_flicker(blink) == pytest.approx(10 / 255)
    assert temporal_flicker(blink[:2]) == 0


def test_motion_is_in_widths_a_second() -> None:
    assert motion_amount(STILL, 24.0) == pytest.approx(0, abs=1e-3)
    assert motion_amount(moving(2), 24.0) == pytest.approx(2 / 120 * 24, rel=0.1)
    assert motion_amount(moving(2), 12.0) == pytest.approx(motion_amount(moving(2), 24.0) / 2)
    assert motion_amount(STILL[:1], 24.0) == 0


def test_warp_error_forgives_motion_but_not_change() -> None:
    panned = moving(2, 1)
    boiling = np.clip(panned + np.random.default_rng(1).normal(0, 25, panned.shape), 0, 255).astype(np.uint8)
    plain = float(np.abs(np.diff(panned.astype(float), axis=0)).mean()) / 255
    assert warp_error(STILL) == pytest.approx(0, abs=1e-3)
    assert warp_error(panned) < 0.25 * plain
    assert warp_error(boiling) > 5 * warp_error(panned)
    assert warp_error(STILL[:1]) == 0


def test_drift_is_none_for_stills_full_for_another_scene_and_small_for_motion() -> None:
    other = np.concatenate([np.full((4, 16, 16, 3), 20, np.uint8), np.full((4, 16, 16, 3), 220, np.uint8)])
    assert appearance_drift(STILL) == pytest.approx(0, abs=1e-6)
    assert appearance_drift(other) == pytest.approx(1)
    assert appearance_drift(moving(2)) < 0.3


@pytest.mark.parametrize(
    ("frames", "name"),
    [
        (STILL, "static"),
        (STILL[:1], "static"),
        (moving(2), "pan_right"),
        (moving(-2), "pan_left"),
        (moving(0, 2), "tilt_down"),
        (moving(0, -2), "tilt_up"),
        (zooming(1.02), "zoom_in"),
        (zooming(1 / 1.02), "zoom_out"),
    ],
)
def test_camera_motion_is_named(frames: np.ndarray, name: str) -> None:
    assert camera_motion(frames) == name


def test_small_keeps_shape_and_never_enlarges() -> None:
    assert small(np.zeros((2, 360, 640, 3), np.uint8)).shape == (2, 90, 160, 3)
    assert small(STILL) is STILL


def test_first_frame_fidelity_looks_at_the_first_frame_only() -> None:
    assert first_frame_fidelity(moving(2), moving(2)[0]) == 100
    assert first_frame_fidelity(moving(2), moving(2)[3]) < 40
