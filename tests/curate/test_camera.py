from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.bench.camera_moves import MOVES, camera_move
from kinema.curate.camera import CameraConfig, CameraScorer, camera_motion, fit_similarity

CONFIG = CameraConfig()


def photograph(seed: int = 0) -> np.ndarray:
    """Structure at all scales, as photographs have."""
    generator = np.random.default_rng(seed)
    layers = [cv2.resize(generator.normal(size=(3 << k, 4 << k)), (640, 480)) for k in range(1, 7)]
    picture = sum(layer / (k + 1) for k, layer in enumerate(layers))
    return np.clip(128 + 40 * picture, 0, 255).astype(np.uint8)[..., None]


@pytest.mark.parametrize("speed", [0.02, 0.1, 0.4])
@pytest.mark.parametrize("move", MOVES)
def test_every_move_gets_its_label(move: str, speed: float) -> None:
    frames, times = camera_move(photograph(), move, speed, seed=1, seconds=1.5)
    found = camera_motion(frames[..., 0], times, CONFIG)
    assert found.motion == move
    if move != "static":
        assert found.speed == pytest.approx(speed, rel=0.3)


def test_shaking_is_handheld_and_two_moves_at_once_are_mixed() -> None:
    photo = photograph()[..., 0]
    generator = np.random.default_rng(2)
    times = np.arange(24) / 8
    shake = 4 * generator.normal(size=(24, 2))
    diagonal = np.stack([3.0 * np.arange(24), 3.0 * np.arange(24)], axis=1)
    for path, label in ((shake, "handheld"), (diagonal, "mixed")):
        views = [cv2.getRectSubPix(photo, (160, 90), (200 + x, 150 + y)) for x, y in path]
        assert camera_motion(np.stack(views), times, CONFIG).motion == label


def test_something_that_crosses_a_still_picture_does_not_move_the_camera() -> None:
    frames, times = camera_move(photograph(), "static", 0.0, seed=3)
    rng = np.random.default_rng(4)
    patch = rng.integers(0, 255, (40, 40), np.uint8)
    for index in range(len(frames)):
        frames[index, 30:70, 4 * index : 4 * index + 40, 0] = patch
    assert camera_motion(frames[..., 0], times, CONFIG).motion == "static"


def test_the_fit_recovers_a_similarity_exactly_and_ignores_outliers() -> None:
    generator = np.random.default_rng(5)
    places = generator.uniform(-50, 50, (200, 2))
    at = places / np.sqrt((places**2).sum(axis=1).mean())
    right, down, growth, rotation = 3.0, -1.0, 0.5, -0.8
    flow = np.stack(
        [right + growth * at[:, 0] - rotation * at[:, 1], down + growth * at[:, 1] + rotation * at[:, 0]], 1
    )
    flow[:60] += generator.uniform(5, 20, (60, 2))
    motion, follows = fit_similarity(flow[None], np.ones((1, 200)), places)
    assert motion[0] == pytest.approx([right, down, growth, rotation], abs=0.05)
    assert follows[0] == pytest.approx(0.7, abs=0.05)


def test_a_clip_of_one_frame_has_no_camera_motion() -> None:
    frames, times = camera_move(photograph(), "static", 0.0, seed=6)
    assert CameraScorer()(frames[:1], times[:1])["camera_motion"] is None
    assert CameraScorer()(frames, times)["camera_motion"] == "static"


@pytest.mark.slow
def test_moves_over_real_photographs() -> None:
    root = os.environ.get("KINEMA_FOOTAGE")
    if not root or not (Path(root) / "photos").is_dir():
        pytest.skip("set KINEMA_FOOTAGE to a folder that holds photos/")
    pictures = [cv2.imread(str(path)) for path in sorted((Path(root) / "photos").iterdir())]
    right = total = 0
    for seed, photo in enumerate(picture for picture in pictures if min(picture.shape[:2]) >= 240):
        for move in MOVES:
            for speed in (0.015, 0.12, 0.4):
                frames, times = camera_move(photo, move, speed, seed=seed, seconds=1.5)
                grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])
                right += camera_motion(grey, times, CONFIG).motion == move
                total += 1
    assert right / total >= 0.95
