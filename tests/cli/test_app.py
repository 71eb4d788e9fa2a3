from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kinema import __version__
from kinema.cli import main
from kinema.cli.commands import app
from kinema.errors import Interrupted, OutputError

COMMANDS = [
    *("curate", "render-orbits", "filter", "report", "caption", "plan", "cache", "train", "orbit"),
    *("generate", "animate", "average", "demo", "evaluate", "arena", "convert", "bench", "export", "import"),
    *("compare", "features", "ablate", "prompts", "chain", "between", "views"),
    *("extend", "connect", "edit", "interpolate", "studio"),
    "pack",
    "simulate",
    "render-world",
]
HEAVY = ["torch", "av", "cv2", "pyarrow", "pydantic", "numpy", "duckdb", "transformers"]


def stand_in(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `kinema plan` raise this."""

    def raises(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("kinema.config.load_config", raises)


def test_every_command_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f" {command} " in shown for command in COMMANDS)
    assert {name for name in app if not name.startswith("-")} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Example: kinema {command} " in shown
    assert "--json" in shown


@pytest.mark.parametrize("command", [[], ["train"]])
def test_help_imports_nothing_large(command: list[str]) -> None:
    program = (
        "import sys; from kinema.cli import main; code = main(sys.argv[1:]); "
        f"print([name for name in {HEAVY} if name in sys.modules]); sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *command, "--help"], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["crate"], 'Did you mean "curate"?'),
        (["plan", "--datset", "x"], "Did you mean --dataset?"),
        (["plan"], "--dataset requires an argument; see: kinema plan --help"),
        (["generate", "--model", "m", "--prompt", "p", "--out", "o.mp4", "--frames", "many"], "--frames"),
        (["curate", "--out", "x"], "no footage is given"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_2(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("kinema: error: ")
    assert told in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OutputError("cannot write x:\nfull"), "kinema: error: cannot write x: full\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            "x: No space left on device; free some space",
        ),
    ],
)
def test_an_error_of_the_outside_world_is_one_line_and_2(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, error)
    assert main(["plan", "--dataset", "x"]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        main(["plan", "--dataset", "x"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["curate", "a.mp4", "--out", "x"], "run the same command again"),
        (["train", "--dataset", "x", "--out", "y"], "with --resume"),
    ],
)
def test_ctrl_c_says_how_to_go_on(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, KeyboardInterrupt())
    assert main(arguments) == 130
    assert told in capsys.readouterr().err


def test_a_granted_stop_is_not_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, Interrupted("stopped after step 3; go on with --resume"))
    assert main(["train", "--dataset", "x", "--out", "y"]) == 130
    assert capsys.readouterr().err == "kinema: stopped after step 3; go on with --resume\n"


def test_json_is_the_last_line_of_stdout(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curate", str(footage), "--out", str(tmp_path / "dataset"), "--json"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    summary = json.loads(captured.out)
    assert {"sources", "clips", "kept", "dropped", "failed", "seconds"} <= set(summary)
    assert (summary["sources"], summary["failed"]) == (2, {})
    assert "curate" in captured.err


def test_without_json_the_summary_is_for_people(
    footage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["curate", str(footage), "--out", str(tmp_path / "dataset")]) == 0
    assert "sources" in capsys.readouterr().out


def test_plan_prints_json_with_the_line_to_start_and_draws_a_picture(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "plan.png"
    words = ["plan", "demo", "--dataset", str(squares), "--sheet", str(sheet), "--no-measure", "--json"]
    words += ["--nodes", "2", "--nproc", "4", "--set", 'data.buckets=[{resolution="32px",frames=4}]']
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["rows"][0]["rank_clips"] == 1
    assert sum(row["clips"] for row in found["rows"]) == found["usable"]
    assert found["not_measured"] == "not measured, as asked"
    assert found["command"].startswith("torchrun --nnodes 2 --nproc-per-node 4")
    assert sheet.stat().st_size > 1000
