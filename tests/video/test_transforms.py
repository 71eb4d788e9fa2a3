from __future__ import annotations

import numpy as np
import pytest
import torch

from kinema.shapes import Size
from kinema.video.transforms import cover, resize_crop, to_frames, to_video


def test_pixels_survive_the_round_trip() -> None:
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    video = to_video(frames)
    assert video.shape == (3, 1, 16, 16)
    assert (video.min().item(), video.max().item()) == (-1.0, 1.0)
    assert np.array_equal(to_frames(video), frames)


def test_values_outside_are_clipped() -> None:
    assert to_frames(torch.full((3, 1, 1, 1), 7.0)).max() == 255
    assert to_frames(torch.full((3, 1, 1, 1), -7.0)).min() == 0


@pytest.mark.parametrize(("height", "width"), [(100, 200), (200, 100), (37, 51), (9, 9), (64, 64)])
def test_crop_has_the_size_asked_for(height: int, width: int) -> None:
    frames = np.zeros((2, height, width, 3), dtype=np.uint8)
    assert resize_crop(frames, Size(height=24, width=40)).shape == (2, 24, 40, 3)


def test_crop_keeps_the_centre() -> None:
    frames = np.zeros((1, 40, 120, 3), dtype=np.uint8)
    frames[:, :, 40:80] = 255
    assert resize_crop(frames, Size(height=40, width=40)).min() == 255


def test_fine_stripes_average_instead_of_aliasing() -> None:
    frames = np.zeros((1, 80, 80, 3), dtype=np.uint8)
    frames[:, :, ::2] = 255
    small = resize_crop(frames, Size(height=20, width=20))
    assert np.abs(small.astype(int) - 127).max() <= 1


def test_covering_size_is_never_smaller() -> None:
    assert cover(1080, 1920, Size(height=64, width=64)) == Size(height=64, width=114)
    assert cover(7, 5, Size(height=64, width=64)) == Size(height=90, width=64)
