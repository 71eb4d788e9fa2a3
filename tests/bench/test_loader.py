from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.bench.loader import (
    FRAMES,
    Footage,
    RandomClip,
    decode_only,
    high_definition,
    memory_figure,
    random_clips,
    read_own,
    run,
    speed_figures,
)
from kinema.errors import ConfigError
from kinema.video.writer import write_video


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Footage]:
    folder = tmp_path_factory.mktemp("videos")
    for name, size in (("a.mp4", (720, 1280)), ("small.mp4", (72, 128))):
        column = np.linspace(0, 255, size[0], dtype=np.uint8)[:, None, None]
        rows = column * np.ones((1, size[1], 3), np.uint8)
        write_video(folder / name, (np.roll(rows, 9 * step, axis=0) for step in range(64)), fps=25)
    return high_definition(folder)


def test_only_high_definition_files_are_read(files: list[Footage]) -> None:
    assert [(file.path.name, file.fps, file.frames) for file in files] == [("a.mp4", 25.0, 64)]


def test_clips_lie_inside_their_files_and_are_the_same_every_time(files: list[Footage]) -> None:
    clips = random_clips(files, 50, stride=3)
    assert clips == random_clips(files, 50, stride=3)
    assert {len(clip.places) for clip in clips} == {FRAMES}
    assert min(clip.places[0] for clip in clips) >= 0
    assert max(clip.places[-1] for clip in clips) <= 63
    assert len({clip.places[0] for clip in clips}) > 5


def test_the_floor_decodes_all_frames_up_to_the_last_wanted_one(files: list[Footage]) -> None:
    clip = RandomClip(files[0], tuple(range(20, 20 + FRAMES)))
    assert decode_only(clip) == 20 + FRAMES
    assert read_own(clip).shape == (FRAMES, 240, 426, 3)


def test_figures_stand_beside_their_peers(files: list[Footage]) -> None:
    figures = speed_figures(files, 1, stride=1)
    assert figures[0].peer == "decoding alone"
    assert all(figure.value > 0 and figure.ratio for figure in figures)
    assert memory_figure(files, 10).value > 1


def test_the_peer_reads_the_same_frames(files: list[Footage]) -> None:
    decord = pytest.importorskip("decord", reason="decord2 is not installed (kinema[bench])")
    clip = RandomClip(files[0], tuple(range(30, 30 + FRAMES)))
    theirs = decord.VideoReader(str(files[0].path), width=426, height=240, num_threads=1)
    frames = theirs.get_batch(list(clip.places)).asnumpy()
    assert np.abs(frames.astype(int) - read_own(clip).astype(int)).mean() < 3


def test_without_footage_it_says_what_to_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KINEMA_FOOTAGE", raising=False)
    with pytest.raises(ConfigError, match="KINEMA_FOOTAGE"):
        run()
    (tmp_path / "videos").mkdir()
    with pytest.raises(ConfigError, match="no 720p"):
        run(tmp_path)
