"""The arena from the command line: votes from anywhere, plans, pairs, agreement, a folder to vote in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.cli import main

VOTES = "model_a,model_b,outcome,voter,prompt\nx,y,A,ann,p\nx,y,tie,bob,p\ny,z,b,ann,q\nz,x,both_bad,bob,q\n"


@pytest.fixture
def votes(tmp_path: Path) -> str:
    (tmp_path / "votes.csv").write_text(VOTES)
    return str(tmp_path / "votes.csv")


def summary(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def test_each_arena_command_answers(votes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert {row["model"] for row in summary(capsys, "arena", "fit", votes)["axes"]["overall"]["models"]} == {
        "x",
        "y",
        "z",
    }
    planned = summary(capsys, "arena", "plan", votes, "--models", "x", "y")["axes"]["overall"]
    assert [(row["first"], row["second"]) for row in planned] == [("x", "y")]
    assert summary(capsys, "arena", "plan", "--gap", "100", "--tie-rate", "0.1")["votes"] > 0
    assert len(summary(capsys, "arena", "pairs", votes, "--count", "2")["axes"]["overall"]) == 2
    assert summary(capsys, "arena", "agreement", votes)["axes"]["overall"]["voters"] == 2


def test_a_folder_to_vote_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("raw", "curated"):
        (tmp_path / model).mkdir()
        (tmp_path / model / "a.mp4").write_bytes(model.encode())
        (tmp_path / model / "a.mp4.json").write_text('{"prompt": "a dog"}')
    named = [f"{model}={tmp_path / model}" for model in ("raw", "curated")]
    made = summary(capsys, "arena", "create", *named, "--out", str(tmp_path / "arena"))
    assert (made["questions"], made["models"]) == (1, ["curated", "raw"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan"], "give either votes or --gap"),
        (["create", "raw", "--out", "x"], "expected NAME=FOLDER"),
        (["fit", "nowhere.csv"], "no such file"),
    ],
)
def test_what_is_missing_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["arena", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
