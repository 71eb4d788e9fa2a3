"""Views: the same pixels from another folder, and clips that stand turned to lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.dataset.loader import clip_frames
from kinema.dataset.store import as_stored, kept_clips
from kinema.dataset.view import lying, write_view
from kinema.files import write_text
from kinema.manifest import read_clips, write_clips
from kinema.shapes import Size
from kinema.video.writer import write_video


@pytest.fixture
def standing(squares: Path, tmp_path: Path) -> Path:
    """A clip of 64 x 32 pixels whose upper half is white."""
    frames = np.full((12, 64, 32, 3), 10, np.uint8)
    frames[:, :32] = 240
    write_video(tmp_path / "tall.mp4", frames, fps=12)
    (clip, *_) = read_clips(squares)
    row = replace(clip, source_path="../tall.mp4", height=64, width=32, aspect_ratio=2.0, frames=12)
    write_text(tmp_path / "dataset" / "dataset.toml", "")
    write_clips(tmp_path / "dataset", "0", [replace(row, end_frame=12, end_s=1.0, duration_s=1.0)])
    return tmp_path / "dataset"


def shown(dataset: Path, size: Size) -> np.ndarray:
    (clip,) = kept_clips(dataset)
    return clip_frames(dataset, clip, np.arange(3), size)


def test_a_view_has_the_same_pixels(standing: Path, tmp_path: Path) -> None:
    write_view(standing, tmp_path / "view", read_clips(standing))
    size = Size(height=64, width=32)
    assert np.array_equal(shown(tmp_path / "view", size), shown(standing, size))


@pytest.mark.parametrize(("height", "width"), [(32, 64), (16, 16), (24, 56)])
def test_a_standing_clip_is_turned_clockwise(standing: Path, tmp_path: Path, height: int, width: int) -> None:
    write_view(standing, tmp_path / "view", read_clips(standing), turn_portrait=True)
    (clip,) = read_clips(tmp_path / "view")
    assert (clip.turned, clip.height, clip.width, clip.aspect_ratio) == (True, 32, 64, 0.5)
    frames = shown(tmp_path / "view", Size(height=height, width=width))
    assert frames.shape == (3, height, width, 3)
    plain = shown(standing, Size(height=width, width=height))
    assert np.array_equal(frames, np.rot90(plain, -1, axes=(1, 2)))
    assert frames[:, :, -4:].mean() > 200  # what was above is at the right
    assert frames[:, :, :4].mean() < 50


def test_a_lying_or_square_clip_is_left_alone_and_no_clip_is_turned_twice(standing: Path) -> None:
    (clip,) = read_clips(standing)
    turned = lying(clip)
    assert lying(turned) == turned
    square = replace(clip, height=32)
    assert lying(square) == square


def test_a_turned_clip_in_a_shard_has_the_turned_size_of_its_file(standing: Path) -> None:
    (clip,) = read_clips(standing)
    packed = replace(
        clip,
        shard="shards/a.tar",
        offset=0,
        size=9,
        stored_start_s=0.0,
        stored_end_s=1.0,
        stored_frames=12,
        stored_height=32,
        stored_width=16,
    )
    assert (as_stored(packed).height, as_stored(packed).width) == (32, 16)
    assert (as_stored(lying(packed)).height, as_stored(lying(packed)).width) == (16, 32)
