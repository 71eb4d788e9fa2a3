from __future__ import annotations

from pathlib import Path

import pytest

from kinema.cli import main


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one line of a command that is refused."""
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_a_prompt_is_needed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = said(capsys, "generate", "--model", tmp_path, "--out", tmp_path / "a.mp4")
    assert "no prompt is given" in line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--prompt", "a"], "leave one out"),
        (["--reference", "a.png"], "columns of a .csv file"),
        ([], "name a .txt or .csv file"),
    ],
)
def test_a_file_of_prompts_stands_alone(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "none.csv"
    line = said(capsys, "generate", "--model", tmp_path, "--out", tmp_path, "--prompts", prompts, *words)
    assert told in line


def test_a_mask_strategy_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"")
    fixed = ["generate", "--model", tmp_path, "--out", tmp_path / "a.mp4", "--prompt", "a"]
    line = said(capsys, *fixed, "--reference", picture, "--mask-strategy", "0,0,0,0,1,0,7")
    assert "'0,0,0,0,1,0,7') has 7 fields" in line
    assert "needs files" in said(capsys, *fixed, "--mask-strategy", "0")
    assert "none.png does not exist" in said(capsys, *fixed, "--reference", "none.png")


@pytest.mark.parametrize("fill", ["a", "3-", "1,,2", "-1"])
def test_frames_to_fill_are_spans(fill: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["edit", "clip.mp4", "--model", tmp_path, "--out", tmp_path / "a.mp4", "--prompt", "a"]
    assert "is no span of frames; write such as 4-9,12" in said(capsys, *fixed, f"--fill={fill}")


def test_an_error_names_the_flag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fixed = ["animate", "a.png", "--model", tmp_path, "--out", tmp_path / "a.mp4", "--prompt", "a"]
    assert "image a.png does not exist" in said(capsys, *fixed)
