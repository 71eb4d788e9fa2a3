from __future__ import annotations

import cv2
import numpy as np
import pytest

from kinema.curate.motion import MotionConfig, MotionScorer, motion_direction, motion_score


def sliding(step: int, frames: int = 3) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(0, 255, (96, 200)).astype(np.float32)
    picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX).astype(
        np.uint8
    )
    return np.stack([picture[:, index * step : index * step + 160] for index in range(frames)])


@pytest.mark.parametrize("step", [1, 2, 4])
def test_score_is_pixels_per_pair(step: int) -> None:
    assert motion_score(sliding(step)) == pytest.approx(step, rel=0.15)


def test_a_still_picture_scores_nothing() -> None:
    assert motion_score(sliding(0)) < 0.01


def test_one_frame_has_no_score() -> None:
    scorer = MotionScorer(MotionConfig())
    assert scorer(sliding(1)[:1, ..., None], np.zeros(1)) == {"motion_score": None, "motion_direction": None}
    with pytest.raises(ValueError, match="at least two frames"):
        motion_score(sliding(1)[:1])


def test_motion_has_a_direction_when_most_goes_one_way() -> None:
    def flow(x: float, y: float) -> np.ndarray:
        return np.broadcast_to(np.array([x, y], np.float32), (9, 16, 2))

    named = {"left": (-2, 0.1), "right": (2, 0), "up": (0, -2), "down": (0.2, 2)}
    assert {name: motion_direction([flow(*way)]) for name, way in named.items()} == {
        name: name for name in named
    }
    assert motion_direction([flow(2, 2)]) is None
    assert motion_direction([flow(-2, 0), flow(2, 0)]) is None
