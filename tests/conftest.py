"""Options and fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

# Before anything imports torch: two test processes with a pool of threads each only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest has an option of this name (its list of fixtures, also called --funcargs): take the name over.
    parser._anonymous._arggroup.conflict_handler = "resolve"
    parser.addoption(
        "--fixtures",
        dest="fixtures_folder",
        metavar="DIR",
        type=Path,
        default=Path(__file__).parent / "fixtures",
        help="folder of parity fixtures (opensora/..., svd/...)",
    )


@pytest.fixture(scope="session")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two small videos of a square that moves, captioned by their names."""
    from kinema.video.writer import write_video

    folder = tmp_path_factory.mktemp("footage")
    for name, colour in (("a red square moves", 0), ("a blue square moves", 2)):
        frames = np.full((48, 96, 96, 3), 90, np.uint8)
        for index, frame in enumerate(frames):
            frame[30:60, index : index + 30, colour] = 250
        write_video(folder / f"{name}.mp4", frames, fps=24)
    return folder


@pytest.fixture(scope="session")
def dataset(footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset folder of `footage`."""
    from kinema.curate.pipeline import CurateConfig, curate

    folder = tmp_path_factory.mktemp("curated") / "dataset"
    assert curate([footage], folder, CurateConfig()).kept == 2
    return folder
