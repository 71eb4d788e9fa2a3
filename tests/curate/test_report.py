from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from kinema.cli import main
from kinema.curate import report
from kinema.curate.pipeline import CurateConfig, curate
from kinema.manifest import read_clips


@pytest.fixture(scope="module")
def curated(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "dataset"
    curate([made], folder, CurateConfig(workers=0))
    return folder


@pytest.fixture
def dataset(curated: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(curated, tmp_path / "dataset"))


def page(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_curate_writes_it(curated: Path) -> None:
    told = page(curated)
    for words in (
        "3 of 4",
        "motion_score.min=0.05",
        "broken.mp4",
        "below 0.05: out",
        "two pictures slide to the left",
        "words in a caption",
        "duration_s",
        "aspect ratio",
    ):
        assert words in told, words
    # The area of text is measured only where its package is installed.
    absent = re.search(r"Not measured in this dataset: (?:text area, )?([^.]+)\.", told)
    assert absent
    assert set(absent[1].split(", ")) - {"text area"} == {"aesthetic score", "text match"}


def test_it_needs_nothing_but_itself(curated: Path) -> None:
    told = page(curated)
    assert not re.search(r"""(src|href)=|@import|url\((?!data:)""", told)
    assert told.count("data:image/jpeg;base64,") == len(set(re.findall(r"\.t-(\w+)\{", told))) > 1


def test_every_shown_clip_says_whether_it_was_kept(curated: Path) -> None:
    cards = re.findall(r'<div class="card (kept|dropped)">.*?<em>(.*?)</em>', page(curated))
    assert {verdict for kind, verdict in cards if kind == "kept"} == {"kept"}
    assert any("dropped: motion below 0.05" in verdict for kind, verdict in cards if kind == "dropped")


def test_names_from_outside_are_escaped(made: Path, tmp_path: Path) -> None:
    name = "<img src=x onerror=alert(1)>.mp4"
    (tmp_path / "in").mkdir()
    shutil.copy(made / "still.mp4", tmp_path / "in" / name)
    (tmp_path / "in" / name).with_suffix(".txt").write_text("<script>alert(2)</script>")
    curate([tmp_path / "in"], tmp_path / "out", CurateConfig(workers=0))
    assert "<img" not in page(tmp_path / "out")
    assert "<script" not in page(tmp_path / "out")


def test_pictures_stop_at_the_cap(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_MOST_PICTURE_BYTES", 3000)
    summary = report.write_report(dataset, dataset / "small.html")
    told = (dataset / "small.html").read_text()
    assert summary["pictures_left_out"] > 0
    assert sum(map(len, re.findall(r"base64,([^)]*)\)", told))) <= 3000


def test_an_empty_dataset_has_a_page(made: Path, tmp_path: Path) -> None:
    curate([made / "broken.mp4"], tmp_path / "out", CurateConfig(workers=0))
    assert "broken.mp4" in page(tmp_path / "out")


def test_the_commands(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> dict:
        assert main([*words, "--json"]) == 0
        summary: dict = json.loads(capsys.readouterr().out.splitlines()[-1])
        return summary

    before = read_clips(dataset)
    summary = run("filter", str(dataset), "--set", "duration_s.min=2.5")
    assert (summary["kept"], summary["dropped"]["duration_s < 2.5"]) == (2, 2)
    assert "below 2.5: out" in page(dataset)
    summary = run("filter", str(dataset), "--set", "motion_score.min=0")  # the other setting stays
    assert summary["dropped"] == {"duration_s < 2.5": 2}
    assert run("filter", str(dataset), "--undo")["dropped"]["motion_score < 0.05"] == 1
    assert run("filter", str(dataset), "--defaults")["kept"] == 3
    assert read_clips(dataset) == before
    made_page = run("report", str(dataset), "--out", str(tmp_path / "page.html"))
    assert (made_page["kept"], made_page["clips"]) == (3, 4)
    assert (tmp_path / "page.html").is_file()
    assert main(["filter", str(dataset), "--set", "duration_s.min=100", "--set", "side.min=1000"]) == 1
    assert main(["filter", str(tmp_path)]) == 2
    assert main(["filter", str(dataset), "--set", "motion.min=1"]) == 2
    assert 'did you mean "motion_score"?' in capsys.readouterr().err
