"""What goes wrong outside the program: each with its exit code, and one line that names it and the mend."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from kinema.cli import main
from kinema.config import dump_config
from kinema.train.config import TrainConfig


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Run a command line that must end with exit code 2 and one line; return the line."""

    def run(*arguments: object) -> str:
        assert main([str(argument) for argument in arguments]) == 2
        captured = capsys.readouterr()
        last = captured.err.splitlines()[-1]
        assert captured.out == ""
        assert last.startswith("kinema: error: ")
        assert "Traceback" not in captured.err
        return last

    return run


def test_missing_path(tmp_path: Path, refused) -> None:
    missing = tmp_path / "nowhere"
    assert f"{missing}: no such file or folder" in refused("curate", missing, "--out", tmp_path / "out")
    assert str(missing) in refused("plan", "--dataset", missing)
    assert str(missing) in refused("train", "--dataset", missing, "--out", tmp_path / "run")
    for command in (["generate"], ["animate", tmp_path / "no.png"]):
        said = refused(*command, "--model", missing, "--prompt", "a", "--out", tmp_path / "a.mp4")
        assert str(missing) in said or "no.png" in said
    assert not (tmp_path / "out").exists()


def test_missing_config_file(footage: Path, tmp_path: Path, refused) -> None:
    said = refused("curate", footage, "--out", tmp_path / "out", "--config", tmp_path / "none.toml")
    assert "none.toml: No such file" in said


def test_empty_folder(tmp_path: Path, refused) -> None:
    (tmp_path / "empty").mkdir()
    said = refused("curate", tmp_path / "empty", "--out", tmp_path / "out")
    assert f"{tmp_path / 'empty'}: no video or image files" in said


@pytest.mark.parametrize("content", [b"this is not a video\n" * 50, b""], ids=["text", "zero-byte"])
def test_a_file_that_is_no_video(
    content: bytes, footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It becomes a row with its reason, the others go on, and the exit code says that one was not done."""
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(content)
    assert main(["curate", str(bad), str(footage), "--out", str(tmp_path / "out"), "--json"]) == 1
    summary = json.loads(capsys.readouterr().out)
    assert list(summary["failed"]) == [str(bad)]
    assert ("empty" if not content else "read") in summary["failed"][str(bad)]
    assert summary["kept"] >= 1


def test_nothing_usable(tmp_path: Path, refused, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"")
    assert main(["curate", str(bad), "--out", str(tmp_path / "dataset")]) == 1
    capsys.readouterr()
    assert str(tmp_path / "dataset") in refused("plan", "--dataset", tmp_path / "dataset")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["curate", "{footage}", "--out", "{out}", "--set", "filters.side.mim=3"],
            'did you mean "filters.side.min"?',
        ),
        (["plan", "--dataset", "{dataset}", "--set", "data.buckts=3"], 'did you mean "data.buckets"?'),
        (["train", "--dataset", "{dataset}", "--out", "{out}", "--set", "stepz=3"], 'did you mean "steps"?'),
        (["train", "no-such-recipe", "--dataset", "{dataset}", "--out", "{out}"], 'called "no-such-recipe"'),
    ],
)
def test_unknown_config_key(
    arguments: list[str], told: str, footage: Path, dataset: Path, tmp_path: Path, refused
) -> None:
    places = {"footage": footage, "dataset": dataset, "out": tmp_path / "out"}
    assert told in refused(*(argument.format(**places) for argument in arguments))
    assert not (tmp_path / "out").exists()


def test_empty_prompt(tmp_path: Path, refused) -> None:
    assert "the prompt is empty" in refused(
        "generate", "--model", tmp_path, "--prompt", " ", "--out", tmp_path / "a.mp4"
    )


def test_output_folder_that_cannot_be_written(footage: Path, dataset: Path, tmp_path: Path, refused) -> None:
    """Beneath a regular file: not even root can make a folder there."""
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "out"
    assert str(tmp_path / "file") in refused("curate", footage, "--out", out)
    assert str(tmp_path / "file") in refused("train", "--dataset", dataset, "--out", out)


def test_disk_full(
    footage: Path, dataset: Path, tmp_path: Path, refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kinema.files.tempfile.mkstemp", full)
    for command in (["curate", footage], ["train", "--dataset", dataset]):
        said = refused(*command, "--out", tmp_path / "out")
        assert "No space left on device; free some space" in said


def test_a_checkpoint_of_another_shape(
    squares: Path, small_run: TrainConfig, tmp_path: Path, refused, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, run = tmp_path / "small.toml", tmp_path / "run"
    recipe.write_text(dump_config(small_run))
    command = ["train", str(recipe), "--dataset", str(squares), "--out", str(run), "--set", "save_every=1"]
    assert main([*command, "--set", "steps=1"]) == 0
    capsys.readouterr()
    said = refused(*command, "--set", "steps=2", "--set", "network.hidden=48", "--resume")
    assert "network" in said
    for network in run.glob("*/*.safetensors"):
        tensors = load_file(network)
        first = next(iter(tensors))
        tensors[first] = tensors[first].new_zeros(3, 5)
        save_file(tensors, network)
    said = refused("generate", "--model", run, "--prompt", "a red square", "--out", tmp_path / "a.mp4")
    assert "(3, 5)" in said or "[3, 5]" in said
