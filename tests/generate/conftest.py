"""A model of four training steps, and a clip and pictures to start from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.video.writer import write_image, write_video


@pytest.fixture(scope="session")
def model(squares: Path, small_run: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "run"
    train(replace(small_run, steps=4), squares, folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten frames at 6 fps, each a little lighter."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = np.stack([np.full((32, 32, 3), 20 * index + 20, np.uint8) for index in range(10)])
    write_video(path, frames, fps=6)
    return path


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A dark picture and a light one."""
    folder = tmp_path_factory.mktemp("pictures")
    for name, level in (("dark", 40), ("light", 210)):
        write_image(folder / f"{name}.png", np.full((32, 48, 3), level, np.uint8))
    return folder / "dark.png", folder / "light.png"
