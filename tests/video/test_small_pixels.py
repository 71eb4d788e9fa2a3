from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.shapes import Size
from kinema.video.reader import open_source
from kinema.video.small_frames import averaged
from kinema.video.writer import write_video


def soft(channels: int) -> np.ndarray:
    """Sampling of chroma hardly matters."""
    noise = cv2.GaussianBlur(np.random.default_rng(0).normal(size=(180, 320, channels)), (0, 0), 12)
    return np.clip(128 + 45 * noise / noise.std(), 0, 255).astype(np.uint8)


def written(path: Path, frame: np.ndarray) -> Path:
    write_video(path, np.stack([frame] * 3), fps=25)
    return path


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return written(tmp_path / "clip.mp4", soft(3))


def test_the_quick_path_gives_the_pixels_of_the_careful_one(clip: Path) -> None:
    size = Size(height=45, width=80)
    with open_source(clip) as reader:
        picture = next(reader.pictures())
        careful, quick = picture.rgb(size), picture.small(size)
    assert quick.shape == careful.shape
    apart = quick.astype(int) - careful
    assert np.abs(apart).mean() < 6
    assert np.abs(apart.mean(axis=(0, 1))).max() < 3


@pytest.mark.parametrize(("height", "width"), [(90, 160), (80, 142), (60, 107), (50, 88), (23, 40), (8, 14)])
def test_scaled_pictures_have_the_average_and_the_mean_colour_of_the_source(
    clip: Path, height: int, width: int
) -> None:
    expected = cv2.resize(soft(3).astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    with open_source(clip) as reader:
        apart = next(reader.pictures()).rgb(Size(height=height, width=width)) - expected
    assert np.abs(apart).mean() < 2.5
    assert np.abs(apart.mean(axis=(0, 1))).max() < 0.9


def test_luma_is_the_grey_of_a_grey_picture(tmp_path: Path) -> None:
    path = written(tmp_path / "grey.mp4", np.repeat(soft(2)[..., :1], 3, axis=2))
    size = Size(height=45, width=80)
    with open_source(path) as reader:
        picture = next(reader.pictures())
        luma, careful = picture.small(size, grey=True), picture.rgb(size)
    assert luma.shape == (45, 80, 1)
    assert np.abs(luma.astype(int) - careful).mean() < 2.5


def test_a_size_near_the_sources_takes_the_careful_path(clip: Path) -> None:
    size = Size(height=150, width=266)
    with open_source(clip) as reader:
        picture = next(reader.pictures())
        assert np.array_equal(picture.small(size), picture.rgb(size))


def test_a_picture_is_converted_once_for_all_who_ask(clip: Path) -> None:
    size = Size(height=45, width=80)
    with open_source(clip) as reader:
        picture = next(reader.pictures())
        assert picture.small(size, grey=True) is picture.small(size, grey=True)


def test_averaging_by_halves_is_averaging() -> None:
    plane = np.random.default_rng(0).integers(0, 256, (96, 160), np.uint8)
    expected = plane.reshape(12, 8, 20, 8).mean(axis=(1, 3))
    assert np.abs(averaged(plane, 20, 12) - expected).max() <= 1.5
    assert averaged(plane[:95, :159], 20, 12).shape == (12, 20)
    assert averaged(plane, 160, 96) is plane
