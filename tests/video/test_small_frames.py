from __future__ import annotations

import av
import numpy as np
import pytest

from kinema.video.small_frames import SMALL_AREA, small_rgb, small_size


def picture(width: int = 320, height: int = 180) -> np.ndarray:
    """Smooth colours, so that any right scaling gives about the same small frame."""
    y, x = np.mgrid[0:height, 0:width]
    channels = [40 + 150 * x / width, 40 + 150 * y / height, 60 + 60 * (x + y) / (width + height)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "rgb24"]
)
def test_every_pixel_format_gives_about_the_same_colours(pixel_format: str) -> None:
    frame = av.VideoFrame.from_ndarray(picture(), format="rgb24").reformat(format=pixel_format)
    small = small_rgb(frame, (32, 18))
    expected = picture(32, 18)
    assert small.shape == (18, 32, 3)
    assert np.abs(small.astype(int) - expected).mean() < 14  # the range of the source is ignored


def test_area_and_aspect_ratio_are_kept() -> None:
    width, height = small_size(1080, 1920)
    assert width * height == pytest.approx(SMALL_AREA, rel=0.05)
    assert height / width == pytest.approx(1920 / 1080, rel=0.05)


def test_odd_sizes_and_tiny_frames_work() -> None:
    for width, height in ((321, 241), (4, 4), (3200, 34)):
        frame = av.VideoFrame.from_ndarray(picture(width, height), format="rgb24").reformat(format="yuv420p")
        assert small_rgb(frame).shape == (*small_size(width, height)[::-1], 3)
