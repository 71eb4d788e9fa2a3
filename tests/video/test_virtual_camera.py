"""A camera that moves over frames which were made larger than they are shown."""

from __future__ import annotations

from typing import get_args

import cv2
import numpy as np
import pytest

from kinema.curate.camera import CameraConfig, camera_motion
from kinema.motion import CameraMove
from kinema.shapes import Size
from kinema.video.virtual_camera import canvas, through_camera

SHOWN = Size(90, 160)
MOVES = [move for move in get_args(CameraMove) if move != "static"]


def picture(size: Size) -> np.ndarray:
    rough = np.random.default_rng(0).integers(0, 256, (size.height // 6, size.width // 6, 3), np.uint8)
    return cv2.resize(rough, (size.width, size.height), interpolation=cv2.INTER_CUBIC)


def seen(move: CameraMove, frames: int = 16) -> np.ndarray:
    still = [picture(canvas(SHOWN, 8))] * frames
    return np.stack(list(through_camera(iter(still), move, SHOWN, frames)))


@pytest.mark.parametrize("move", MOVES)
def test_curation_calls_each_move_what_it_is(move):
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in seen(move)])
    assert camera_motion(grey, np.arange(len(grey)) / 8.0, CameraConfig()).motion == move


def test_the_canvas_holds_every_view():
    assert canvas(Size(64, 64), 4) == Size(96, 96)
    assert canvas(Size(50, 70), 8) == Size(80, 112)
    marked = np.full((96, 96, 3), 200, np.uint8)
    cv2.rectangle(marked, (0, 0), (95, 95), (0, 0, 0), 1)
    for move in MOVES:
        views = list(through_camera(iter([marked] * 5), move, Size(64, 64), 5))
        assert min(view.min() for view in views) == 200, move


def test_a_zoom_ends_with_the_pixels_as_they_were_made():
    made = picture(canvas(SHOWN, 8))
    top, left = (made.shape[0] - SHOWN.height) // 2, (made.shape[1] - SHOWN.width) // 2
    middle = made[top : top + SHOWN.height, left : left + SHOWN.width].astype(int)
    last = seen("zoom_in")[-1].astype(int)
    # Drawn at twice the size and averaged: as soft as a pixel is wide.
    assert np.abs(last - middle).mean() < 6
    np.testing.assert_array_equal(seen("zoom_out")[0], last)


def test_a_pan_goes_as_far_to_one_side_as_to_the_other():
    left, right = seen("pan_left"), seen("pan_right")
    np.testing.assert_array_equal(left, right[::-1])
    assert len(seen("tilt_up", frames=1)) == 1
