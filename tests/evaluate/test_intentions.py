"""What a video was asked to be: text by CLIP, first frame, camera; a picture that has gone is a reason."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from kinema.encoders.clip import Clip, ClipConfig
from kinema.errors import DecodeError
from kinema.evaluate.intentions import clip_metrics, clip_name, stated_metrics
from kinema.evaluate.metrics import EvaluateConfig, evaluate
from kinema.evaluate.sampling import Span, find_spans
from kinema.video.writer import write_image, write_video


def write_animated(folder: Path, first: int, **stated) -> Path:
    """A video whose brightness rises by 10 a frame from `first`, and its sidecar."""
    folder.mkdir(exist_ok=True)
    frames = [np.full((32, 48, 3), first + 10 * n, np.uint8) for n in range(8)]
    write_video(folder / "a.mp4", frames, 8.0)
    (folder / "a.mp4.json").write_text(json.dumps(stated))
    return folder / "a.mp4"


def test_the_first_frame_is_compared_with_the_picture_that_was_given(tmp_path: Path) -> None:
    picture = tmp_path / "photo.png"
    write_image(picture, np.full((64, 96, 3), 100, np.uint8))
    told = {"path": str(picture), "sha256": hashlib.sha256(picture.read_bytes()).hexdigest()}
    same = write_animated(tmp_path / "same", 100, image=told)
    other = write_animated(tmp_path / "other", 140, image=told)
    fidelity = [
        stated_metrics(Span(path=path, name="a"), 8)["first_frame_fidelity"] for path in (same, other)
    ]
    assert fidelity[0] > 40
    assert fidelity[1] == pytest.approx(20 * np.log10(255 / 40), abs=0.5)
    picture.write_bytes(b"another")
    with pytest.raises(DecodeError, match="has changed since"):
        stated_metrics(Span(path=same, name="a"), 8)
    picture.unlink()
    with pytest.raises(DecodeError, match="is not there"):
        stated_metrics(Span(path=same, name="a"), 8)


def test_a_lost_picture_costs_only_what_needs_it(tmp_path: Path) -> None:
    write_animated(tmp_path / "videos", 100, image="gone.png")
    result = evaluate(tmp_path / "videos", None, tmp_path / "out")
    assert "first_frame_fidelity" not in result["metrics"]
    assert result["metrics"]["temporal_flicker"]["videos"] == 1
    assert "gone.png, is not there" in next(iter(result["skipped"].values()))


def test_text_match_is_the_mean_cosine_and_a_still_has_no_drift(clip_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "still" / "a.mp4"
    frame = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    write_video(path, [frame] * 8, 8.0)
    path.with_name("a.mp4.json").write_text('{"prompt": "a red ball"}')
    clip = Clip(ClipConfig(source=str(clip_folder)))
    (span,) = find_spans(tmp_path / "still")
    found = clip_metrics(span, clip, 1.0)
    assert found["subject_drift"] == pytest.approx(0, abs=1e-3)
    assert -1 <= found["text_match"] <= 1
    config = EvaluateConfig(clip=str(clip_folder))
    result = evaluate(tmp_path / "still", None, tmp_path / "out", config)
    assert result["metrics"]["text_match"]["value"] == pytest.approx(found["text_match"])
    assert result["protocol"]["clip"].startswith("sha256 ")


def test_another_subject_drifts_more(clip_folder: Path, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    write_video(tmp_path / "a.mp4", [noise[0]] * 4 + [noise[1]] * 4, 8.0)
    write_video(tmp_path / "b.mp4", [noise[0]] * 8, 8.0)
    clip = Clip(ClipConfig(source=str(clip_folder)))
    drifts = [clip_metrics(span, clip, 1.0)["subject_drift"] for span in find_spans(tmp_path)]
    assert drifts[0] > 2 * drifts[1]


def test_weights_are_named_by_content(clip_folder: Path) -> None:
    assert clip_name("") == ""
    assert clip_name("openai/clip-vit-base-patch32") == "openai/clip-vit-base-patch32"
    assert clip_name(str(clip_folder)) == clip_name(str(clip_folder)) != ""
