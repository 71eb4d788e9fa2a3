from __future__ import annotations

import json
import os
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from kinema.curate.captions import CaptionConfig
from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.motion import MotionConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.curate.spans import SpanConfig
from kinema.errors import DatasetError, OutputError
from kinema.manifest import read_clips, read_sources
from kinema.video.reader import decode_count, read_frames

HERE = CurateConfig(workers=0)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def by_name(out: Path) -> dict[str, list]:
    found: dict[str, list] = {}
    for clip in read_clips(out):
        found.setdefault(Path(clip.source_path).name, []).append(clip)
    return found


def test_clips_scores_captions_and_reasons(made: Path, tmp_path: Path) -> None:
    summary = curate([made], tmp_path / "out", HERE)
    clips = by_name(tmp_path / "out")
    first, second = clips["two_shots.mp4"]
    assert (first.start_frame, first.end_frame, second.start_frame, second.end_frame) == (0, 40, 40, 100)
    assert (first.cut_kind_start, first.cut_kind_end, second.cut_kind_end) == ("start", "hard", "end")
    assert (first.duration_s, second.duration_s, first.fps) == pytest.approx((2.0, 3.0, 20.0))
    assert first.motion_score is not None
    assert first.motion_score > 1
    assert [caption.text for caption in first.captions] == ["two pictures slide to the left"]
    (still,) = clips["still.mp4"]
    assert (still.kept, still.drop_reasons) == (False, ("motion_score < 0.05",))
    (photo,) = clips["red_barn.png"]
    assert (photo.frames, photo.fps, photo.duration_s, photo.kept) == (1, 0.0, 0.0, True)
    assert [(caption.text, caption.kind) for caption in photo.captions] == [("red barn", "filename")]
    assert (summary.sources, summary.clips, summary.kept) == (4, 4, 3)
    assert summary.dropped == {"motion_score < 0.05": 1}
    assert list(summary.failed) == [str(made / "broken.mp4")]
    assert "Traceback" not in summary.failed[str(made / "broken.mp4")]
    assert json.loads(json.dumps(summary.as_dict()))["kept"] == 3
    thumbnails = {path.stem for path in (tmp_path / "out" / "thumbnails").iterdir()}
    assert thumbnails == {clip.clip_id for clip in read_clips(tmp_path / "out")}


def test_every_source_is_decoded_once_and_never_again(made: Path, tmp_path: Path) -> None:
    before = decode_count.opened
    first = curate([made], tmp_path / "out", HERE)
    assert decode_count.opened - before == first.decoded == 4  # one of them cannot be opened
    written = contents(tmp_path / "out")
    again = curate([made], tmp_path / "out", HERE)
    assert decode_count.opened - before == 4
    assert again.decoded == 0
    assert contents(tmp_path / "out") == written
    assert replace(again, seconds=0, decoded=0) == replace(first, seconds=0, decoded=0)


def test_footage_is_never_written(made: Path, tmp_path: Path) -> None:
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.rglob("*")}
    curate([made], tmp_path / "out", HERE)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in made.rglob("*")} == before


def test_processes_give_the_same_rows_as_one(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "one", HERE)
    curate([made], tmp_path / "two", replace(HERE, workers=2))
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_an_interrupted_run_goes_on_and_ends_alike(made: Path, tmp_path: Path) -> None:
    class Interrupts:
        def stage(self, name: str, total: int | None = None) -> None:
            self.steps = 0

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.steps += bool(note)
            if self.steps == 2:
                raise KeyboardInterrupt

    curate([made], tmp_path / "whole", HERE)
    with pytest.raises(KeyboardInterrupt):
        curate([made], tmp_path / "parts", HERE, Interrupts())
    assert len(read_sources(tmp_path / "parts")) == 2
    assert curate([made], tmp_path / "parts", HERE).decoded == 2
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_other_filters_and_captions_need_no_decoding(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "out", HERE)
    (tmp_path / "table.csv").write_text("path,text\ntwo_shots.mp4,from the table\n")
    changed = replace(
        HERE,
        filters=FilterConfig(duration_s=Bounds(min=2.5), motion_score=Bounds()),
        captions=CaptionConfig(table=str(tmp_path / "table.csv"), sidecars=False),
    )
    summary = curate([made], tmp_path / "out", changed)
    assert summary.decoded == 0
    assert summary.dropped == {"duration_s < 2.5": 2}
    assert [clip.captions[0].text for clip in by_name(tmp_path / "out")["two_shots.mp4"]] == [
        "from the table"
    ] * 2
    curate([made], tmp_path / "straight", changed)
    assert read_clips(tmp_path / "straight") == read_clips(tmp_path / "out")


def test_other_cuts_or_another_file_decode_again(made: Path, tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.mp4"
    source.parent.mkdir()
    source.write_bytes((made / "two_shots.mp4").read_bytes())
    curate([source], tmp_path / "out", HERE)
    longer = curate([source], tmp_path / "out", replace(HERE, spans=SpanConfig(max_duration_s=1)))
    assert (longer.decoded, longer.clips) == (1, 5)
    os.utime(source, ns=(1, 1))
    assert curate([source], tmp_path / "out", replace(HERE, spans=SpanConfig(max_duration_s=1))).decoded == 1
    source.write_bytes(b"no video any more" * 9)
    broken = curate([source], tmp_path / "out", HERE)
    assert (broken.clips, list(broken.failed)) == (0, [str(source)])


def test_same_content_is_curated_once(made: Path, tmp_path: Path) -> None:
    for name in ("b/copy.mp4", "a.mp4", "c.mp4"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((made / "two_shots.mp4").read_bytes())
    summary = curate([tmp_path / "in" / "b"], tmp_path / "out", HERE)
    assert summary.duplicates == {}
    summary = curate([tmp_path / "in"], tmp_path / "out", HERE)
    original = tmp_path / "in" / "b" / "copy.mp4"
    assert summary.decoded == 0
    assert summary.duplicates == {
        str(tmp_path / "in" / name): f"same content as {original}" for name in ("a.mp4", "c.mp4")
    }
    assert {clip.source_path for clip in read_clips(tmp_path / "out")} == {str(original)}


def test_the_spans_of_clips_can_be_read_back(made: Path, tmp_path: Path) -> None:
    curate([made / "two_shots.mp4"], tmp_path / "out", HERE)
    first, second = read_clips(tmp_path / "out")
    path = Path(first.source_path)
    last_of_first, first_of_second = read_frames(path, [first.end_s - 1 / first.fps, second.start_s])
    inside = read_frames(path, [first.start_s])[0]
    assert np.abs(last_of_first.astype(int) - first_of_second).mean() > 20
    assert np.abs(last_of_first.mean() - inside.mean()) < 15


def test_dataset_toml_holds_the_config_and_the_counts(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "out", replace(HERE, motion=MotionConfig(width=96)))
    content = tomllib.loads((tmp_path / "out" / "dataset.toml").read_text())
    assert content["config"]["motion"]["width"] == 96
    assert content["counts"] == {"sources": 4, "failed": 1, "clips": 4, "kept": 3}
    assert content["kinema"]


def test_parts_are_plain_parquet(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "out", HERE)
    table = pq.read_table(tmp_path / "out" / "clips")
    assert {"clip_id", "cut_kind_start", "motion_score", "captions", "kept", "drop_reasons"} <= set(
        table.column_names
    )
    assert table.num_rows == 4


def test_nothing_kept_says_so(made: Path, tmp_path: Path) -> None:
    summary = curate([made / "broken.mp4"], tmp_path / "out", HERE)
    assert (summary.kept, summary.clips, len(summary.failed)) == (0, 0, 1)


def test_bad_input_and_output_are_one_line(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.mp4: no such file or folder"):
        curate([tmp_path / "gone.mp4"], tmp_path / "out", HERE)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        curate([made], tmp_path / "file" / "out", HERE)


NASTY_FAILED = {
    "audio_only.mp4",
    "bitrot.mp4",
    "corrupted_decord.mp4",
    "text_named.mp4",
    "truncated_mid.mp4",
    "truncated_no_moov.mp4",
    "zero_byte.mp4",
}


def test_every_nasty_file_gives_a_row(footage: Path, tmp_path: Path) -> None:
    summary = curate([footage / "nasty"], tmp_path / "out", replace(HERE, workers=2))
    assert {Path(path).name for path in summary.failed} == NASTY_FAILED
    assert all(reason and "\n" not in reason for reason in summary.failed.values())
    clips = by_name(tmp_path / "out")
    assert set(clips) | NASTY_FAILED == {path.name for path in (footage / "nasty").iterdir()}
    assert clips["all_black.mp4"][0].drop_reasons == ("motion_score < 0.05", "black_frames > 0.5")
    assert clips["still_image.mp4"][0].drop_reasons == ("motion_score < 0.05",)
    (portrait,) = clips["rotated_metadata_portrait.mp4"]
    assert (portrait.width, portrait.height, portrait.frames) == (270, 480, 90)
    (varying,) = clips["vfr_two_rates.mp4"]
    assert (varying.frames, varying.start_s) == (43, 0.0)
    assert varying.duration_s == pytest.approx(4.9, abs=0.3)
    (late,) = clips["non_zero_start.mp4"]
    assert (late.start_s, late.duration_s) == pytest.approx((0.0, 0.4), abs=1e-3)


@pytest.mark.slow
def test_real_footage_is_curated(footage: Path, tmp_path: Path) -> None:
    summary = curate([footage / "videos", footage / "photos"], tmp_path / "out", replace(HERE, workers=2))
    assert (summary.sources, summary.failed) == (68, {})
    assert summary.kept > 60
