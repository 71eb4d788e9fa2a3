from __future__ import annotations

import cv2
import numpy as np
import pytest

from kinema.curate.quality import (
    QualityConfig,
    QualityScorer,
    blocking,
    cropped,
    exposure,
    letterbox,
    noise,
    sharpness,
    technical_quality,
)

CONFIG = QualityConfig()


def photograph(seed: int = 0) -> np.ndarray:
    """Shapes with crisp edges over a smooth ground."""
    generator = np.random.default_rng(seed)
    picture = np.tile(np.linspace(60, 170, 320), (180, 1)).astype(np.uint8)
    for _ in range(40):
        centre = tuple(int(value) for value in generator.integers((0, 0), (320, 180)))
        radius, shade = int(generator.integers(4, 30)), int(generator.integers(20, 235))
        cv2.circle(picture, centre, radius, shade, -1, cv2.LINE_AA)
    return picture


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


def test_each_fault_lowers_its_part_and_the_whole_more_the_worse_it_is() -> None:
    clean = photograph()
    grain = np.random.default_rng(1).normal(size=clean.shape)
    ladders = {
        sharpness: [cv2.GaussianBlur(clean, (0, 0), sigma) for sigma in (0.1, 1.5, 4.0)],
        lambda frame: 1 - noise(frame): [np.clip(clean + s * grain, 0, 255).astype("u1") for s in (0, 3, 9)],
        exposure: [(clean * gain).astype("u1") for gain in (1.0, 0.5, 0.15)],
        lambda frame: 1 - blocking(frame): [clean, compressed(clean, 12), compressed(clean, 2)],
    }
    for part, ladder in ladders.items():
        parts = [part(frame) for frame in ladder]
        wholes = [technical_quality(frame) for frame in ladder]
        assert parts == sorted(parts, reverse=True)
        assert parts[0] > parts[2] + 0.2
        assert wholes[0] > wholes[2]


def test_black_and_frozen_frames_are_counted() -> None:
    still = np.repeat(photograph()[None], 6, axis=0)
    moving = np.stack([photograph(seed) for seed in range(6)])
    black = np.full_like(moving, 17)
    times = np.arange(6) / 2
    scored = [QualityScorer()(frames[..., None], times) for frames in (still, moving, black)]
    assert [score["frozen_frames"] for score in scored] == [1.0, 0.0, 1.0]
    assert [score["black_frames"] for score in scored] == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(("top", "left"), [(24, 0), (0, 40), (20, 30), (0, 0)])
def test_a_letterbox_is_found_and_its_crop_removes_it(top: int, left: int) -> None:
    frames = np.stack([photograph(seed) for seed in range(3)])
    height, width = frames.shape[1:]
    frames[:, :top] = frames[:, height - top :] = 16
    frames[:, :, :left] = frames[:, :, width - left :] = 16
    crop = letterbox(frames, CONFIG)
    assert crop.top * height == pytest.approx(top, abs=1)
    assert crop.right * width == pytest.approx(width - left, abs=1)
    inside = cropped(frames, crop)
    assert inside.shape[1:] == pytest.approx((height - 2 * top, width - 2 * left), abs=2)
    assert crop.bars == pytest.approx(1 - inside[0].size / frames[0].size, abs=0.02)


def test_a_dark_scene_is_no_letterbox() -> None:
    frames = np.full((4, 180, 320), 10, np.uint8)
    assert letterbox(frames, CONFIG).bars == 0
    assert QualityScorer()(frames[..., None], np.arange(4.0))["brightness"] == pytest.approx(
        10 / 255, abs=1e-3
    )


def test_no_frames_give_no_scores() -> None:
    assert QualityScorer()(np.empty((0, 90, 160, 1), np.uint8), np.empty(0)) == {}
