from __future__ import annotations

import json

import pytest

from kinema.cli import main
from kinema.cli.benchmarks import benchmarks


def test_benchmarks_are_found_by_their_run_function(capsys: pytest.CaptureFixture[str]) -> None:
    assert "stdit2" in benchmarks()
    assert not {"figures", "camera_moves", "naive_stdit2"} & set(benchmarks())
    assert main(["bench", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["benchmarks"] == benchmarks()


def test_an_unknown_benchmark_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "stdit3"]) == 2
    assert "known are" in capsys.readouterr().err


def test_figures_are_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    figure = {"name": "step", "value": 2.0, "unit": "s", "peer": "naive", "ratio": 0.5, "met": True}
    monkeypatch.setattr(
        "kinema.bench.stdit2.run",
        lambda: {"benchmark": "stdit2", "figures": [figure], "notes": ["one peer is missing"]},
    )
    assert main(["bench", "stdit2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["figures"] == [figure]
    assert main(["bench", "stdit2"]) == 0
    assert "one peer is missing" in capsys.readouterr().out


def test_a_part_that_a_benchmark_does_not_have_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "stdit2", "--only", "speed"]) == 2
    assert "it has no parts" in capsys.readouterr().err
    assert main(["bench", "curate", "--only", "colours"]) == 2
    assert "its parts are cuts" in capsys.readouterr().err
