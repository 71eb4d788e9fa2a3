"""A dataset of moving squares, and the smallest config that trains on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.diffusion.masking import MaskConfig
from kinema.encoders.embedded import PatchPCAConfig, WordTextConfig
from kinema.files import write_text
from kinema.manifest import Caption, Clip, clip_id, write_clips
from kinema.nn import STDiT2Config
from kinema.train.config import PreviewConfig, TrainConfig
from kinema.video.writer import write_video

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60)}


def moving_square(colour: str, frames: int = 24, size: int = 32) -> np.ndarray:
    video = np.full((frames, size, size, 3), 90, np.uint8)
    for index in range(frames):
        video[index, 10:22, 2 + index % 18 : 12 + index % 18] = COLOURS[colour]
    return video


def clip_row(colour: str, path: Path, frames: int = 24, size: int = 32) -> Clip:
    return Clip(
        clip_id=clip_id(colour, 0, frames),
        source_id=colour,
        source_path=str(path),
        start_frame=0,
        end_frame=frames,
        start_s=0.0,
        end_s=frames / 12,
        cut_kind_start="start",
        cut_kind_end="end",
        frames=frames,
        fps=12.0,
        width=size,
        height=size,
        aspect_ratio=1.0,
        duration_s=frames / 12,
        captions=(Caption(text=f"a {colour} square moves", kind="human"),),
    )


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    rows = []
    for colour in COLOURS:
        path = folder / f"{colour}.mp4"
        write_video(path, moving_square(colour), fps=12)
        rows.append(clip_row(colour, path))
    write_text(folder / "dataset" / "dataset.toml", "")
    write_clips(folder / "dataset", "0", rows)
    return folder / "dataset"


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        network=STDiT2Config(depth=1, hidden=24, heads=2, input_sq_size=32, caption_drop=0.3),
        autoencoder=PatchPCAConfig(patch=8, components=6, whitening=0.5),
        text_encoder=WordTextConfig(width=8, heads=2, max_tokens=6),
        data=DataConfig(
            buckets=(BucketRule(resolution="32px", frames=4), BucketRule(resolution="32px", frames=1)),
            bucketing=Timed(fps=6.0, video_as_image=0.3),
            batch_size=4,
            flip=True,
            workers=0,
        ),
        masks=MaskConfig(first=0.3, scattered=0.3, ends=0.2),
        preview=PreviewConfig(steps=3),
        steps=6,
        save_every=3,
        tensorboard=False,
    )
