from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.curate.filters import Bounds, FilterConfig, filtered
from kinema.curate.refilter import current_filters, previous_filters, refilter
from kinema.errors import DatasetError
from kinema.manifest import Caption, Clip, read_clips, write_clips

CAPTIONS = (Caption(text="a dog", kind="image", model="m"),)


def row(part: int, index: int, motion: float) -> Clip:
    return Clip(
        clip_id=f"{part:05d}{index:05d}",
        source_id=f"{part}",
        source_path=f"/footage/{part:05d}.mp4",
        start_frame=100 * index,
        end_frame=100 * index + 50,
        start_s=4.0 * index,
        end_s=4.0 * index + 2,
        cut_kind_start="hard",
        cut_kind_end="hard",
        frames=50,
        fps=25.0,
        width=320,
        height=180,
        aspect_ratio=180 / 320,
        duration_s=2.0,
        motion_score=motion,
        captions=CAPTIONS,
    )


def made_dataset(folder: Path, parts: int, clips: int) -> Path:
    folder.mkdir()
    (folder / "dataset.toml").write_text('kinema = "0"\n')
    motion = np.random.default_rng(0).gamma(2.0, 1.0, (parts, clips))
    for part in range(parts):
        rows = [row(part, index, float(motion[part, index])) for index in range(clips)]
        write_clips(folder, f"{part:05d}", rows)
    return folder


def stamps(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "clips").iterdir()}


HALF = FilterConfig(motion_score=Bounds(drop_lowest=0.5))


def test_it_says_what_the_rows_say(tmp_path: Path) -> None:
    folder = made_dataset(tmp_path / "d", parts=5, clips=20)
    before = read_clips(folder)
    summary = refilter(folder, HALF)
    after = read_clips(folder)
    assert after == filtered(before, HALF)
    assert (summary.clips, summary.kept, summary.changed) == (100, 50, 50)
    assert summary.dropped == {"motion_score in the lowest 50 %": 50}
    assert summary.hours_kept == pytest.approx(100 / 3600)
    (cut,) = [summary.thresholds["motion_score in the lowest 50 %"]]
    assert sum((clip.motion_score or 0) < cut for clip in before) == 50


def test_it_never_loses_a_row_and_can_be_undone(tmp_path: Path) -> None:
    folder = made_dataset(tmp_path / "d", parts=2, clips=10)
    refilter(folder, FilterConfig())
    before = read_clips(folder)
    assert refilter(folder, FilterConfig(duration_s=Bounds(min=1000))).kept == 0
    assert len(read_clips(folder)) == 20
    assert current_filters(folder)["duration_s"]["min"] == 1000
    assert previous_filters(folder)["duration_s"]["min"] == 1
    refilter(folder, FilterConfig())
    assert read_clips(folder) == before


def test_parts_that_do_not_change_are_not_touched(tmp_path: Path) -> None:
    folder = made_dataset(tmp_path / "d", parts=3, clips=4)
    still = row(1, 0, 0.0)
    write_clips(folder, "00001", [still])
    before = stamps(folder)
    refilter(folder, FilterConfig(motion_score=Bounds(min=1e-9)))
    after = stamps(folder)
    assert {name for name in before if before[name] != after[name]} == {"part-00001.parquet"}
    refilter(folder, FilterConfig(motion_score=Bounds(min=1e-9)))
    assert stamps(folder) == after


def test_parts_without_newer_columns_are_read_and_keep_their_own(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    folder = made_dataset(tmp_path / "d", parts=1, clips=4)
    part = next((folder / "clips").iterdir())
    table = pq.ParquetFile(part).read()
    table = table.drop_columns(["text_area", "near_duplicate_of"]).append_column("mine", [[1, 2, 3, 4]])
    pq.write_table(table, part)
    assert refilter(folder, FilterConfig(duration_s=Bounds(min=9))).kept == 0
    assert pq.ParquetFile(part).read()["mine"].to_pylist() == [1, 2, 3, 4]
    assert [clip.captions for clip in read_clips(folder)] == [CAPTIONS] * 4


def test_an_empty_dataset_and_none(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    with pytest.raises(DatasetError, match="not a dataset folder"):
        refilter(tmp_path / "d", FilterConfig())
    (tmp_path / "d" / "dataset.toml").write_text("")
    assert refilter(tmp_path / "d", FilterConfig()).clips == 0
    with pytest.raises(DatasetError, match="filtered only once"):
        previous_filters(tmp_path / "d")


@pytest.mark.slow
def test_a_hundred_thousand_clips(tmp_path: Path) -> None:
    """`kinema bench filters` has the time that they take."""
    folder = made_dataset(tmp_path / "d", parts=1000, clips=100)
    assert refilter(folder, HALF).changed == 50_000
    assert refilter(folder, replace(HALF, motion_score=Bounds(drop_lowest=0.25))).changed == 25_000
