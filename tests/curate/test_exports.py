from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.cli import main
from kinema.curate.exports import OPEN_SORA_COLUMNS, export
from kinema.curate.filters import FilterConfig
from kinema.curate.imports import import_clips
from kinema.curate.pipeline import CurateConfig, curate
from kinema.curate.storage import StorageConfig
from kinema.dataset.store import kept_clips, source_file
from kinema.errors import DatasetError, OutputError
from kinema.manifest import Clip, read_clips, read_sources
from kinema.video.reader import probe, read_frames

CONFIG = CurateConfig(workers=0, filters=FilterConfig(near_duplicates=False))
NOWHERE = {"shard": None, "offset": None, "size": None, "stored_start_s": None, "stored_end_s": None}
NOWHERE |= {"stored_frames": None, "stored_height": None, "stored_width": None}


@pytest.fixture(scope="module")
def dataset(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dataset") / "out"
    curate([made], out, CONFIG)
    return out


def rows(out: Path) -> list[Clip]:
    return [replace(clip, **NOWHERE) for clip in read_clips(out) if clip.kept]


@pytest.mark.parametrize("kind", ["folder", "csv", "webdataset"])
@pytest.mark.parametrize("mode", ["span", "copy", "transcode"])
def test_rows_captions_spans_and_pixels_come_back(made: Path, tmp_path: Path, kind: str, mode: str) -> None:
    curate([made], tmp_path / "in", replace(CONFIG, storage=StorageConfig(mode=mode, side=64)))
    assert export(tmp_path / "in", tmp_path / "there", kind)["clips"] == 3
    shutil.move(tmp_path / "there", tmp_path / "moved")
    source = tmp_path / "moved" / "clips.csv" if kind == "csv" else tmp_path / "moved"
    assert import_clips(source, tmp_path / "back")["failed"] == {}
    assert rows(tmp_path / "back") == rows(tmp_path / "in")
    before, after = (kept_clips(tmp_path / name) for name in ("in", "back"))
    for one, other in zip(before, after, strict=True):
        assert (one.frames, one.height, one.width) == (other.frames, other.height, other.width)
        pixels = [
            read_frames(source_file(tmp_path / name, clip), [clip.start_s + 0.02]).astype(int)
            for name, clip in (("in", one), ("back", other))
        ]
        assert abs(pixels[0] - pixels[1]).mean() < 6


def test_a_folder_has_a_text_beside_each_clip(dataset: Path, tmp_path: Path) -> None:
    export(dataset, tmp_path / "out", "folder")
    for clip in kept_clips(dataset):
        text = (tmp_path / "out" / f"{clip.clip_id}.txt").read_text()
        assert text.split("\n\n") == [f"{clip.captions[0].text}\n"]
    (tmp_path / "out" / f"{clip.clip_id}.txt").write_text("a better one")
    import_clips(tmp_path / "out", tmp_path / "back")
    changed = {row.clip_id: row for row in read_clips(tmp_path / "back")}[clip.clip_id]
    assert [(caption.text, caption.kind) for caption in changed.captions] == [("a better one", "sidecar")]


def test_the_table_has_the_columns_of_open_sora(dataset: Path, tmp_path: Path) -> None:
    export(dataset, tmp_path / "out", "csv")
    with (tmp_path / "out" / "clips.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert list(table[0])[:13] == list(OPEN_SORA_COLUMNS)
    for row in table:
        found = probe(Path(row["path"]))
        assert (found.height, found.width) == (int(row["height"]), int(row["width"]))
        assert float(row["aspect_ratio"]) == pytest.approx(found.height / found.width)
        assert int(row["resolution"]) == found.height * found.width
        assert int(row["num_frames"]) == found.frames


def test_photos_that_datasets_cannot_hold_are_counted(dataset: Path, tmp_path: Path) -> None:
    summary = export(dataset, tmp_path / "out", "huggingface")
    moving = [clip for clip in kept_clips(dataset) if clip.duration_s]
    files = list((tmp_path / "out" / "videos").iterdir())
    assert summary["clips"] == len(files) == len(moving) < len(kept_clips(dataset))
    assert summary["left_out"] == "1 photo(s): datasets reads videos only"
    assert "left_out" not in export(dataset, tmp_path / "folder", "folder")


# Its loaders leave files open.
@pytest.mark.filterwarnings("ignore")
def test_datasets_reads_the_folder(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets = pytest.importorskip("datasets", reason="Hugging Face datasets is not installed")
    export(dataset, tmp_path / "out", "huggingface")
    table = datasets.load_dataset("videofolder", data_dir=str(tmp_path / "out"), split="train")
    videos = {clip.clip_id: clip for clip in kept_clips(dataset) if clip.duration_s}
    assert set(table["clip_id"]) == set(videos)
    raw = table.cast_column("video", datasets.Video(decode=False))
    for row in raw:
        clip = videos[row["clip_id"]]
        assert (row["text"], row["start_s"]) == (clip.captions[0].text, clip.start_s)
        assert probe(Path(row["video"]["path"])).frames == clip.frames


def test_clips_of_others_are_whole_files(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path / "theirs")
    summary = import_clips(tmp_path / "theirs", tmp_path / "out")
    assert (summary["clips"], list(summary["failed"])) == (3, [str(tmp_path / "theirs" / "broken.mp4")])
    clips = {Path(clip.source_path).name: clip for clip in read_clips(tmp_path / "out")}
    whole = clips["two_shots.mp4"]
    assert (whole.frames, whole.duration_s, whole.shard) == (100, pytest.approx(5.0), None)
    assert [caption.text for caption in whole.captions] == ["two pictures slide to the left"]
    assert clips["red_barn.png"].duration_s == 0
    assert {row.status for row in read_sources(tmp_path / "out")} == {"done", "failed"}


def test_a_table_of_others_needs_only_paths(made: Path, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_text(f"path,text\n{made / 'two_shots.mp4'},two shots\n")
    import_clips(tmp_path / "all.csv", tmp_path / "out")
    (clip,) = read_clips(tmp_path / "out")
    assert [(caption.text, caption.kind) for caption in clip.captions] == [("two shots", "table")]


def test_another_export_in_the_folder_is_refused(dataset: Path, tmp_path: Path) -> None:
    export(dataset, tmp_path / "out", "csv")
    export(dataset, tmp_path / "out", "csv")
    with pytest.raises(OutputError, match="holds another export"):
        export(dataset, tmp_path / "out", "folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="no clips in it"):
        import_clips(tmp_path / "empty", tmp_path / "back")
    with pytest.raises(OutputError, match="is a dataset already"):
        import_clips(tmp_path / "out", dataset)


def test_commands_export_and_import(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert main(["export", str(dataset), "--format", "webdataset", "--out", out, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 3
    assert main(["import", out, "--out", str(tmp_path / "back"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["clips"] == 3
