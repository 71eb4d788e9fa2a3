from __future__ import annotations

import json
import re

import pytest

from kinema.cli.terminal import Bars, show


def test_off_a_terminal_each_stage_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        bars.advance()  # before any stage: nothing to move
        bars.stage("decode", total=3)
        bars.advance(2, note="a.mp4")
        bars.stage("write")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["decode (3)", "write"]


def test_off_a_terminal_long_stages_tell_how_far_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Bars(clock=lambda: now[0]) as bars:
        bars.stage("curate", total=70)
        for _ in range(7):
            now[0] += 10
            bars.advance(note="0.5 clips/s, 1 failed")
    assert capsys.readouterr().err.splitlines() == [
        "curate (70)",
        "curate 3/70, 0.5 clips/s, 1 failed",
        "curate 6/70, 0.5 clips/s, 1 failed",
    ]


def test_the_whole_note_of_curation_fits_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "0.4 clips/s, 63.0 h video/h, 5 min 03 s left, 12 failed"
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "110")
    with Bars() as bars:
        bars.stage("curate", total=700)
        bars.advance(2, note=note)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert note in drawn
    assert drawn.splitlines()[-1].count("left") == 1


def test_on_a_terminal_a_bar_is_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Bars() as bars:
        bars.stage("decode", total=3)
        bars.advance(2, note="a.mp4")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2/3" in captured.err
    assert "a.mp4" in captured.err


def test_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    show({"name": "a\nb", "figure": 1.5}, as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"name": "a\nb", "figure": 1.5}


def test_a_summary_for_people_is_indented(capsys: pytest.CaptureFixture[str]) -> None:
    show({"clips": 3, "dropped": {"too short": 2}, "failed": {}, "loss": 0.123456}, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "clips    3",
        "dropped",
        "  too short  2",
        "failed   none",
        "loss     0.1235",
    ]
