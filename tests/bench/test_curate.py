from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from kinema.bench import cuts
from kinema.bench.curate import FOOTAGE, _notes, run
from kinema.bench.curate_pass import decode_figure, memory_figure
from kinema.bench.curate_scores import burned_in, camera_figure
from kinema.bench.cuts import network_edges, processor_seconds
from kinema.curate.cuts_neural import Opinion
from kinema.errors import ConfigError
from kinema.video.writer import write_image, write_video


def test_without_footage_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(FOOTAGE, raising=False)
    with pytest.raises(ConfigError, match=FOOTAGE):
        run()
    (tmp_path / "videos").mkdir()
    with pytest.raises(ConfigError, match=r"needs photos, spliced/cuts\.json"):
        run(tmp_path)


def test_one_part_is_measured_alone_and_what_was_not_is_said(tmp_path: Path) -> None:
    for part in ("videos", "photos", "spliced"):
        (tmp_path / part).mkdir()
    (tmp_path / "spliced" / "cuts.json").write_text("{}")
    write_video(tmp_path / "videos" / "one.mp4", np.zeros((12, 36, 64, 3), np.uint8), fps=12)
    found = run(tmp_path, only="decodes")
    assert [figure["name"] for figure in found["figures"]] == ["decodes a source"]
    assert found["notes"] == []
    assert any("data-juicer" in note for note in _notes(("speed",)))
    with pytest.raises(ConfigError, match="its parts are cuts, speed"):
        run(tmp_path, only="colours")


def test_a_subtitle_is_burned_in_at_the_foot() -> None:
    grey = np.full((400, 800, 3), 90, np.uint8)
    changed = np.flatnonzero((burned_in(grey, "OK", 0.7) != 90).any(axis=(1, 2)))
    assert 250 < changed.min() < changed.max() < 310


def test_camera_accuracy_on_a_textured_photograph_is_whole(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    write_image(tmp_path / "photo.png", noise.repeat(10, axis=0).repeat(10, axis=1))
    assert camera_figure(tmp_path).value > 0.85


def test_a_network_alone_gives_one_edge_a_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = np.stack([np.full((36, 64, 3), 60 if index < 70 else 200, np.uint8) for index in range(140)])
    write_video(tmp_path / "two.mp4", frames, fps=25)

    def network(seen: np.ndarray) -> Opinion:
        steps = np.abs(np.diff(seen.astype(float), axis=0)).mean(axis=(1, 2, 3))
        return Opinion(np.r_[steps > 50, False].astype(float), np.zeros(len(seen)))

    monkeypatch.setattr(cuts, "load_network", lambda: network)
    assert network_edges(tmp_path / "two.mp4") == [70]


def test_processor_time_counts_work_and_no_sleep() -> None:
    assert processor_seconds(lambda: sum(range(2_000_000))) > 0.005


def test_a_source_is_decoded_once(tmp_path: Path) -> None:
    write_video(tmp_path / "one.mp4", np.zeros((12, 36, 64, 3), np.uint8), fps=12)
    assert decode_figure(tmp_path, 4).value == 1


@pytest.mark.slow
def test_memory_of_two_workers_is_measured(tmp_path: Path) -> None:
    assert 0.05 < memory_figure(tmp_path, (64, 96)).value < 3


@pytest.mark.slow
def test_a_quick_run_measures_every_part() -> None:
    root = os.environ.get(FOOTAGE)
    if not root:
        pytest.skip(f"set {FOOTAGE} to a folder with videos/, photos/ and spliced/")
    names = {figure["name"] for figure in run(quick=True)["figures"]}
    assert {"cuts F1", "camera motion accuracy", "peak memory of two workers", "decodes a source"} <= names
