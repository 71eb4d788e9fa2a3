from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kinema.location import PackedFile
from kinema.shapes import Size
from kinema.video import reader
from kinema.video.openings import Opening, Openings, file_version
from kinema.video.pictures import SourceInfo
from kinema.video.pixels import Geometry
from kinema.video.reader import decode, read_frames
from kinema.video.writer import write_video


def shades(count: int, offset: int = 0) -> np.ndarray:
    values = (np.arange(count, dtype=np.uint8) * 4 + offset)[:, None, None, None]
    return values * np.ones((1, 32, 48, 3), np.uint8)


def opening(path: Path) -> Opening:
    size = Size(height=1, width=1)
    facts = {"width": 1, "height": 1, "fps": 1.0, "frames": 1, "duration_s": 1.0, "codec": "x", "rotation": 0}
    return Opening(0.0, Geometry(size, size, False, 0), SourceInfo(path=path, is_image=False, **facts))


def test_the_start_is_decoded_once_however_often_a_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", shades(60), fps=20)
    kept, fed = Openings(), []
    monkeypatch.setattr(reader, "openings", kept)
    opened = reader.Reader._opened

    def counted(self: reader.Reader, first: object) -> Opening:
        fed.append(first)
        return opened(self, first)

    monkeypatch.setattr(reader.Reader, "_opened", counted)
    first = read_frames(tmp_path / "a.mp4", [2.0, 2.5])
    again = read_frames(tmp_path / "a.mp4", [2.0, 2.5])
    assert np.array_equal(first, again)
    assert len(fed) == 1


def test_a_file_that_was_replaced_is_looked_at_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, shades(40), fps=20)
    assert read_frames(path, [1.5]).shape == (1, 32, 48, 3)
    write_video(path, shades(40).transpose(0, 2, 1, 3), fps=10)
    os.utime(path, ns=(1, 1))
    assert read_frames(path, [1.5]).shape == (1, 48, 32, 3)
    assert np.array_equal(read_frames(path, [1.5])[0], list(decode(path))[15].pixels)


def test_the_oldest_goes_first(tmp_path: Path) -> None:
    kept = Openings(most=2)
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(b"x")
        kept.keep(path, opening(path))
    assert [kept.of(path) is not None for path in paths] == [False, True, True]


def test_versions_tell_files_and_clips_in_shards_apart(tmp_path: Path) -> None:
    shard = tmp_path / "clips.tar"
    shard.write_bytes(bytes(100))
    clips = [PackedFile(shard, 0, 40), PackedFile(shard, 40, 60)]
    assert len({file_version(path) for path in (shard, *clips)}) == 3
    assert file_version(tmp_path / "none.mp4") is None
