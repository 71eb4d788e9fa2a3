"""Where the real footage lies, when it is there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kinema.video.writer import write_image, write_video

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of real clips: $KINEMA_FOOTAGE, or ../shared/footage beside the checkout."""
    folder = Path(os.environ.get("KINEMA_FOOTAGE") or ROOT.parent / "shared" / "footage")
    if not folder.is_dir():
        pytest.skip(f"no real footage in {folder} (set KINEMA_FOOTAGE)")
    return folder


def moving_picture(frames: int, seed: int, speed: int = 3, height: int = 90, width: int = 160) -> np.ndarray:
    """Random tiles that slide to the left, brighter for a higher seed."""
    tiles = np.random.default_rng(seed).integers(
        0, 120, (height // 10, (width + frames * speed) // 10 + 1, 3)
    )
    picture = (tiles + 25 * seed).astype(np.uint8).repeat(10, axis=0).repeat(10, axis=1)
    return np.stack([picture[:, index * speed : index * speed + width] for index in range(frames)])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made footage: two shots of 2 s and 3 s, a still one, a photo, a broken file and a sidecar."""
    folder = tmp_path_factory.mktemp("footage")
    write_video(folder / "two_shots.mp4", np.concatenate([moving_picture(40, 1), moving_picture(60, 4)]), 20)
    write_video(folder / "still.mp4", moving_picture(1, 2).repeat(40, axis=0), 20)
    write_image(folder / "sub" / "red_barn.png", moving_picture(1, 3)[0])
    (folder / "broken.mp4").write_bytes(b"this is no video\n" * 30)
    (folder / "two_shots.txt").write_text("two pictures slide\nto the left\n")
    return folder
