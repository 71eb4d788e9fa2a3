from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kinema.curate import sampling
from kinema.curate.sampling import FrameTrack, Sampling
from kinema.errors import OutputError
from kinema.video.reader import open_source
from kinema.video.writer import write_video


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    frames = np.stack([np.full((36, 64, 3), 2 * index, dtype=np.uint8) for index in range(100)])
    write_video(tmp_path / "clip.mp4", frames, fps=20)
    return tmp_path / "clip.mp4"


@pytest.mark.parametrize("in_memory", [1 << 20, 1])
def test_track_keeps_the_first_frame_of_each_interval(
    clip: Path, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampling, "_IN_MEMORY_BYTES", in_memory)
    with open_source(clip) as reader:
        track = FrameTrack(Sampling(fps=2, width=32, grey=True), reader.info)
        for picture in reader.pictures():
            track.offer(picture)
    frames, times = track.between(1.0, 3.0)
    assert frames.shape == (4, 18, 32, 1)
    assert times.tolist() == pytest.approx([1.0, 1.5, 2.0, 2.5])
    assert [float(frame.mean()) / 2 for frame in frames] == pytest.approx([20, 30, 40, 50], abs=1)
    assert track.between(2.6, 2.9)[0].shape == (0, 18, 32, 1)
    track.close()


def test_a_track_is_never_wider_than_the_source(clip: Path) -> None:
    with open_source(clip) as reader:
        track = FrameTrack(Sampling(fps=30, width=640), reader.info)
        track.offer(next(reader.pictures()))
    assert track.between(0, 1)[0].shape == (1, 36, 64, 3)
    track.close()


def test_refuses_a_sampling_of_nothing() -> None:
    with pytest.raises(ValueError, match="fps > 0"):
        Sampling(fps=0, width=160)


def test_a_full_disk_is_not_the_sources_fault(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with open_source(clip) as reader, closing(FrameTrack(Sampling(fps=2, width=32), reader.info)) as track:
        monkeypatch.setattr(track._store, "write", full)
        with pytest.raises(OutputError, match="No space left on device; free some space"):
            track.offer(next(reader.pictures()))
