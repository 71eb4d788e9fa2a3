"""The whole flow on small generated videos: the one end-to-end run."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.dataset.buckets import Timed
from kinema.demo.flow import run_demo
from kinema.demo.in_the_box import PROMPTS
from kinema.errors import DatasetError
from kinema.train.config import TrainConfig
from kinema.video.reader import read_frames


@pytest.fixture(scope="module")
def recipe(small_run: TrainConfig) -> TrainConfig:
    data = replace(small_run.data, buckets=small_run.data.buckets[:1], bucketing=Timed(fps=6.0))
    return replace(small_run, steps=4, save_every=2, data=data)


@pytest.fixture(scope="module")
def made(footage: Path, recipe: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "out"
    summary = run_demo(footage, out, recipe)
    assert summary["clips_kept"] == 2
    assert all(Path(video).is_file() for video in summary["videos"])
    return out


def test_the_page_refers_only_to_files_that_are_there(made: Path) -> None:
    page = (made / "report.html").read_text()
    paths = re.findall(r'src="([^"]+)"', page)
    assert len(paths) == len(PROMPTS) + 2 * 4 + 2
    assert all(prompt in page for prompt in PROMPTS)
    assert all((made / path).is_file() for path in paths)
    assert not re.findall(r"https?://", page)
    assert "memorised" in page
    assert "a red square moves" in page


def test_videos_have_the_frames_asked_for_and_a_sidecar(made: Path, recipe: TrainConfig) -> None:
    for sidecar in sorted((made / "videos").glob("*.mp4.json")):
        record = json.loads(sidecar.read_text())
        frames = read_frames(sidecar.with_suffix(""), [i / record["fps"] for i in range(record["frames"])])
        assert len(frames) == record["frames"] == recipe.data.buckets[0].frames


def test_a_second_run_trains_no_step_again(made: Path, footage: Path, recipe: TrainConfig) -> None:
    before = (made / "run" / "metrics.jsonl").read_text()
    summary = run_demo(footage, made, recipe)
    assert (made / "run" / "metrics.jsonl").read_text() == before
    assert summary["last_loss"] is not None


def test_other_footage_in_the_same_folder_is_refused(
    made: Path, footage: Path, recipe: TrainConfig, tmp_path: Path
) -> None:
    out = tmp_path / "copy"
    shutil.copytree(made, out)
    shutil.rmtree(out / "dataset")
    one = shutil.copy(next(footage.glob("*.mp4")), tmp_path)
    with pytest.raises(DatasetError, match="other clips"):
        run_demo(Path(one), out, recipe)
