from __future__ import annotations

import json

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
