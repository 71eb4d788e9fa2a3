"""Small datasets: clips as rows, and a folder with real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.files import write_text
from kinema.manifest import Caption, Clip, clip_id, write_clips
from kinema.video.writer import write_image, write_video


def _make_clip(
    name: str, *, frames: int = 48, fps: float = 24.0, height: int = 64, width: int = 64, path: str = "a.mp4"
) -> Clip:
    fps = 0.0 if frames == 1 else fps
    duration_s = frames / fps if fps else 0.0
    return Clip(
        clip_id=clip_id(name, 0, frames),
        source_id=name,
        source_path=path,
        start_frame=0,
        end_frame=frames,
        start_s=0.0,
        end_s=duration_s,
        cut_kind_start="start",
        cut_kind_end="end",
        frames=frames,
        fps=fps,
        width=width,
        height=height,
        aspect_ratio=height / width,
        duration_s=duration_s,
        captions=(Caption(text=f"caption of {name}", kind="human"),),
    )


def counting_frames(frames: int, height: int, width: int) -> np.ndarray:
    """Each frame is one grey: 16 more than the one before, so that a decoded frame tells its place."""
    greys = (np.arange(frames, dtype=np.uint8) * 4 + 8)[:, None, None, None]
    return np.broadcast_to(greys, (frames, height, width, 3)).copy()


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three videos of 48 frames at 24 fps in three shapes, and one photo."""
    folder = tmp_path / "dataset"
    write_text(folder / "dataset.toml", "")
    clips = []
    for index, (height, width) in enumerate([(64, 64), (64, 96), (96, 64)]):
        path = tmp_path / f"video{index}.mp4"
        write_video(path, counting_frames(48, height, width), fps=24)
        clips.append(_make_clip(f"video{index}", height=height, width=width, path=str(path)))
    photo = tmp_path / "photo.png"
    write_image(photo, counting_frames(3, 80, 80)[2])
    clips.append(_make_clip("photo", frames=1, height=80, width=80, path=str(photo)))
    write_clips(folder, "0", clips)
    return folder
