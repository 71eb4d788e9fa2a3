from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.curate.analysis import KeepConfig, kept_names
from kinema.curate.caption_frames import FrameSource
from kinema.curate.pipeline import CurateConfig, curate
from kinema.manifest import Clip, read_clips
from kinema.video.reader import decode_count, read_frames


def dataset(made: Path, folder: Path, **keep: object) -> list[Clip]:
    curate([made / "two_shots.mp4"], folder, CurateConfig(workers=0, keep=KeepConfig(**keep)))  # type: ignore[arg-type]
    return read_clips(folder)


def test_a_second_decode_opens_a_source_once_and_shows_the_right_frames(made: Path, tmp_path: Path) -> None:
    clips = dataset(made, tmp_path / "d")
    source, before = FrameSource(tmp_path / "d", count=3, width=400), decode_count.opened
    found = list(source.frames(clips[::-1]))
    assert decode_count.opened - before == 1
    assert source.decoded == [clips[0].source_path]
    for item in found:
        clip = item.clip
        times = [clip.start_s + (clip.end_s - clip.start_s) * part for part in (1 / 6, 1 / 2, 5 / 6)]
        assert item.pictures is not None
        assert np.array_equal(item.pictures, read_frames(Path(clip.source_path), times))
        assert np.array_equal(item.middle()[0], item.pictures[1])


def test_kept_frames_are_the_same_ones(made: Path, tmp_path: Path) -> None:
    clips = dataset(made, tmp_path / "d", frames=3, width=160, fps=50)
    kept, before = list(FrameSource(tmp_path / "d", count=3, width=160).frames(clips)), decode_count.opened
    assert decode_count.opened == before
    dataset(made, tmp_path / "other")
    decoded = FrameSource(tmp_path / "other", count=3, width=160).frames(clips)
    for one, other in zip(kept, decoded, strict=True):
        assert one.pictures is not None
        assert other.pictures is not None
        assert one.pictures.shape == other.pictures.shape
        assert np.abs(one.pictures.astype(int) - other.pictures).mean() < 8  # JPEG


@pytest.mark.parametrize(("count", "width"), [(5, 160), (3, 400)])
def test_too_few_or_too_small_frames_are_not_used(made: Path, tmp_path: Path, count: int, width: int) -> None:
    clips = dataset(made, tmp_path / "d", frames=3, width=80)
    source = FrameSource(tmp_path / "d", count=count, width=width)
    assert all(item.pictures is not None and len(item.pictures) == count for item in source.frames(clips))
    assert len(source.decoded) == 1


def test_frames_are_shrunk_to_the_longer_side(made: Path, tmp_path: Path) -> None:
    clips = dataset(made, tmp_path / "d")
    (first, _) = FrameSource(tmp_path / "d", count=2, width=80).frames(clips)
    assert first.pictures is not None
    assert first.pictures.shape == (2, 45, 80, 3)


def test_names_of_kept_pictures() -> None:
    assert kept_names("a", 1) == ["a"]
    assert kept_names("a", 2) == ["a-0of2", "a-1of2"]
