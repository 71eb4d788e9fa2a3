from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.cli import main
from kinema.curate import captioning
from kinema.curate.analysis import KeepConfig
from kinema.curate.captioner import CaptionsSpent
from kinema.curate.captioning import CaptioningConfig, PromptConfig, caption_dataset
from kinema.curate.endpoint import EndpointConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.errors import CaptionError, ConfigError
from kinema.manifest import Caption, Clip, read_clips
from kinema.video.reader import decode_count

PROMPTS = PromptConfig(image="image", video="video", merged="merge {image} and {video}")
CONFIG = CaptioningConfig(
    backend=EndpointConfig(model="m"), image_model="coca", frames=3, width=128, prompts=PROMPTS
)


class Scripted:
    """A captioner that remembers what it was asked, and fails where it is told to."""

    concurrency = 2

    def __init__(self, fails: str = "", cap: int | None = None) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.fails, self.cap = fails, cap

    def answer(self, model: str, prompt: str, pictures: np.ndarray | None) -> str:
        if self.cap is not None and len(self.asked) >= self.cap:
            raise CaptionsSpent
        count = 0 if pictures is None else len(pictures)
        self.asked.append((model, prompt, count))
        if self.fails and prompt.startswith(self.fails):
            raise CaptionError("HTTP 500")
        return f"{prompt} by {model}"


@pytest.fixture(scope="module")
def curated(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captioning") / "dataset"
    curate([made], folder, CurateConfig(workers=0))
    return folder


@pytest.fixture
def dataset(curated: Path, tmp_path: Path) -> Path:
    """Two clips of one video, a photo and a clip that is dropped."""
    return Path(shutil.copytree(curated, tmp_path / "dataset"))


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Scripted:
    captioner = Scripted()
    monkeypatch.setattr(captioning, "_captioner", lambda config: captioner)
    return captioner


def made_by_models(clip: Clip) -> list[Caption]:
    return [caption for caption in clip.captions if caption.model]


def test_the_middle_the_video_and_both_merged(dataset: Path, scripted: Scripted) -> None:
    before = decode_count.opened
    summary = caption_dataset(dataset, CONFIG)
    clips = {clip.clip_id: clip for clip in read_clips(dataset) if clip.kept}
    assert (summary.clips, summary.failed, summary.left) == (3, {}, 0)
    assert summary.captions == {"image": 3, "video": 2, "merged": 2}
    assert Counter(scripted.asked) == {
        ("coca", "image", 1): 3,
        ("m", "video", 3): 2,
        ("m", "merge image by coca and video by m", 0): 2,
    }
    assert decode_count.opened - before == 1
    assert [Path(path).name for path in summary.decoded] == ["two_shots.mp4"]
    video = next(clip for clip in clips.values() if clip.frames > 1)
    assert video.captions[0] == Caption(text="two pictures slide to the left", kind="sidecar")
    assert made_by_models(video) == [
        Caption(text="image by coca", kind="image", model="coca"),
        Caption(text="merge image by coca and video by m by m", kind="merged", model="m"),
        Caption(text="video by m", kind="video", model="m"),
    ]
    photo = next(clip for clip in clips.values() if clip.frames == 1)
    assert [caption.kind for caption in photo.captions] == ["image"]  # the words of the file name are gone


def test_nothing_is_asked_twice(dataset: Path, scripted: Scripted) -> None:
    caption_dataset(dataset, CONFIG)
    asked, rows = len(scripted.asked), read_clips(dataset)
    again = caption_dataset(dataset, CONFIG)
    assert (len(scripted.asked), again.captions, again.decoded) == (asked, {}, [])
    assert read_clips(dataset) == rows


def test_another_prompt_asks_again_and_takes_the_place_of_the_old(dataset: Path, scripted: Scripted) -> None:
    caption_dataset(dataset, CONFIG)
    scripted.asked.clear()
    caption_dataset(dataset, replace(CONFIG, prompts=replace(PROMPTS, merged="join {image} with {video}")))
    assert [prompt for _, prompt, _ in scripted.asked] == ["join image by coca with video by m"] * 2
    for clip in read_clips(dataset):
        if clip.kept and clip.frames > 1:
            assert [item.text[:5] for item in clip.captions if item.kind == "merged"] == ["join "]


def test_a_failed_clip_keeps_what_it_has_and_is_tried_again(dataset: Path, scripted: Scripted) -> None:
    scripted.fails = "video"
    summary = caption_dataset(dataset, CONFIG)
    assert (summary.captions, len(summary.failed), summary.left) == ({"image": 3}, 2, 2)
    assert set(summary.failed.values()) == {"HTTP 500"}
    scripted.fails = ""
    summary = caption_dataset(dataset, CONFIG)
    assert (summary.captions, summary.failed, summary.left) == ({"video": 2, "merged": 2}, {}, 0)


def test_the_cap_ends_the_run_and_the_next_one_goes_on(dataset: Path, scripted: Scripted) -> None:
    scripted.cap = 4
    summary = caption_dataset(dataset, CONFIG)
    assert sum(summary.captions.values()) == 4
    assert "max_requests" in summary.stopped
    assert summary.left > 0
    scripted.cap = None
    summary = caption_dataset(dataset, CONFIG)
    assert (sum(summary.captions.values()), summary.left, len(scripted.asked)) == (3, 0, 7)


def test_an_endpoint_that_never_answers_is_left(dataset: Path, scripted: Scripted) -> None:
    scripted.fails = "image"
    summary = caption_dataset(dataset, replace(CONFIG, most_failures=2))
    assert "2 clips in a row without an answer; the last: HTTP 500" in summary.stopped
    assert summary.captions == {}


def test_a_run_that_is_killed_loses_no_answer_that_was_written(
    dataset: Path, scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captioning, "_PART_ROWS", 1)

    class Interrupts:
        def stage(self, name: str, total: int | None = None) -> None: ...

        def advance(self, steps: int = 1, note: str = "") -> None:
            if note:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        caption_dataset(dataset, CONFIG, Interrupts())
    scripted.asked.clear()
    summary = caption_dataset(dataset, CONFIG)
    assert summary.left == 0
    assert sum(summary.captions.values()) < 7


def test_captions_outlive_another_curation(dataset: Path, made: Path, scripted: Scripted) -> None:
    caption_dataset(dataset, CONFIG)
    rows = read_clips(dataset)
    assert curate([made], dataset, CurateConfig(workers=0)).decoded == 0
    assert read_clips(dataset) == rows


def test_frames_that_were_kept_need_no_second_decode(made: Path, tmp_path: Path, scripted: Scripted) -> None:
    keep = CurateConfig(workers=0, keep=KeepConfig(frames=3, width=128))
    curate([made / "two_shots.mp4"], tmp_path / "kept", keep)
    before = decode_count.opened
    summary = caption_dataset(tmp_path / "kept", CONFIG)
    assert (decode_count.opened, summary.decoded) == (before, [])
    assert {count for _, prompt, count in scripted.asked if prompt == "video"} == {3}
    assert caption_dataset(tmp_path / "kept", replace(CONFIG, frames=5)).decoded == [
        str(made / "two_shots.mp4")
    ]


def test_a_source_that_is_gone_is_a_fault_of_its_clips(
    made: Path, tmp_path: Path, scripted: Scripted
) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(made / "two_shots.mp4", tmp_path / "in")
    curate([tmp_path / "in"], tmp_path / "out", CurateConfig(workers=0))
    (tmp_path / "in" / "two_shots.mp4").unlink()
    summary = caption_dataset(tmp_path / "out", CONFIG)
    assert len(summary.failed) == 2
    assert all("two_shots.mp4" in why for why in summary.failed.values())


def test_measured_captions_say_what_the_row_says(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(dataset), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["captions"], summary["decoded"]) == ({"measured": 3}, [])
    (first, *_) = [clip for clip in read_clips(dataset) if clip.frames > 1 and clip.kept]
    (measured,) = [caption for caption in first.captions if caption.kind == "measured"]
    assert (measured.model, measured.text.endswith("; 2 s")) == ("kinema", True)


def test_the_command_names_what_is_missing(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["caption", str(dataset), "--backend", "endpoint"]) == 2
    assert "no model is named for image, video, merged captions" in capsys.readouterr().err
    assert main(["caption", str(dataset), "--backend", "telepathy"]) == 2
    assert 'expected "endpoint" or "transformers" or "measured"' in capsys.readouterr().err


def test_refuses_a_merger_of_nothing() -> None:
    with pytest.raises(ValueError, match="merged needs image and video"):
        CaptioningConfig(kinds=("image", "merged"))
    with pytest.raises(ConfigError, match="no model"):
        captioning._captioner(replace(CONFIG, backend=EndpointConfig()))
