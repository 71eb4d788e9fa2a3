from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from kinema.errors import ConfigError, PeerError
from kinema.runlog import read_heartbeat, read_metrics
from kinema.train.checkpoints import checkpoint_folders, load_checkpoint
from kinema.train.launch import _message, _root, cause, oom_kills, tell_launcher


def start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kinema", "train", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(true: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)


def rows(out: Path) -> int:
    return len(read_metrics(out))


def going(out: Path, pid: int, step: int) -> bool:
    """Whether this process has come that far."""
    return read_heartbeat(out).get("pid") == pid and rows(out) >= step


def workers(launcher: int) -> list[int]:
    """Its child processes that train."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
        if parent == launcher and b"kinema" in words:
            found.append(int(folder.name))
    return sorted(found)


def test_a_dead_process_is_told_and_a_stopped_run_goes_on(
    squares: Path, recipe: Path, tmp_path: Path
) -> None:
    """kill -9 of one of two processes; then --resume, SIGTERM, and --resume to the end."""
    out = tmp_path / "run"
    words = [str(recipe), "--dataset", str(squares), "--out", str(out), "--nproc", "2", "--json"]
    launcher = start(*words, "--set", "steps=100000", "--set", "save_every=2")
    wait_for(lambda: bool(checkpoint_folders(out / "checkpoints")), launcher)
    os.kill(workers(launcher.pid)[1], signal.SIGKILL)
    _, told = launcher.communicate(timeout=200)
    assert launcher.returncode == 2
    assert "died of SIGKILL; go on from the last checkpoint with --resume" in told
    beat = read_heartbeat(out)
    assert (beat["state"], beat["cause"]) == ("died", "SIGKILL")
    assert beat["step"] > 0

    last = int(checkpoint_folders(out / "checkpoints")[-1].name[5:])
    launcher = start(*words, "--resume", "--set", "steps=100000")
    # The rows of the dead run stay until its steps are made again: the heartbeat says that this one lives.
    wait_for(lambda: read_heartbeat(out)["state"] == "running" and rows(out) > last + 1, launcher)
    launcher.send_signal(signal.SIGTERM)
    _, told = launcher.communicate(timeout=200)
    assert launcher.returncode == 130, told
    assert "go on with --resume" in told
    stopped = rows(out)
    assert read_heartbeat(out)["state"] == "stopped"
    assert int(checkpoint_folders(out / "checkpoints")[-1].name[5:]) == stopped

    launcher = start(*words, "--resume", "--set", f"steps={stopped + 1}")
    said, told = launcher.communicate(timeout=240)
    assert launcher.returncode == 0, told
    summary = json.loads(said.splitlines()[-1])
    assert (summary["resumed_from"], summary["steps"], summary["processes"]) == (stopped, stopped + 1, 2)


def test_processes_do_not_outlive_their_launcher(squares: Path, recipe: Path, tmp_path: Path) -> None:
    """kill -9 of the launcher: they save and end, and the run can go on."""
    out = tmp_path / "run"
    words = [str(recipe), "--dataset", str(squares), "--out", str(out), "--nproc", "2"]
    launcher = start(*words, "--set", "steps=100000", "--set", "save_every=100000")
    wait_for(lambda: rows(out) > 1, launcher)
    trained = workers(launcher.pid)
    launcher.kill()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in trained):
        assert time.monotonic() < deadline, "they train on"
        time.sleep(0.1)
    launcher.communicate()
    assert read_heartbeat(out)["state"] == "stopped"
    assert int(checkpoint_folders(out / "checkpoints")[-1].name[5:]) == rows(out)


def alive(pid: int) -> bool:
    """Not merely waiting to be buried."""
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def test_a_mistake_is_one_line_and_exit_code_2(squares: Path, recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    words = [str(recipe), "--dataset", str(squares), "--out", str(tmp_path / "run"), "--nproc", "2"]
    launcher = start(*words)
    _, told = launcher.communicate(timeout=240)
    assert launcher.returncode == 2
    errors = [line for line in told.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "is not empty; go on with --resume" in errors[0]


@pytest.mark.slow
def test_kills_at_twenty_random_moments_lose_nothing_but_time(
    squares: Path, recipe: Path, tmp_path: Path
) -> None:
    """The run that was killed again and again ends with the bits of the one that was not."""
    settings = ["--set", "steps=240", "--set", "save_every=4", "--set", "preview.every=50"]
    words = [str(recipe), "--dataset", str(squares), *settings]
    whole = start(*words, "--out", str(tmp_path / "whole"))
    _, told = whole.communicate(timeout=600)
    assert whole.returncode == 0, told
    out, generator, kills = tmp_path / "killed", random.Random(0), 0
    while kills < 20:
        folders = checkpoint_folders(out / "checkpoints")
        before = int(folders[-1].name[5:]) if folders else 0
        process = start(
            *words, "--out", str(out), *(["--resume"] if (out / "resolved.toml").exists() else [])
        )
        wait_for(partial(going, out, process.pid, before + generator.randrange(5, 12)), process)
        time.sleep(generator.random() * 0.3)
        done = rows(out)
        process.kill()
        process.communicate()
        kills += 1
        kept = int(checkpoint_folders(out / "checkpoints")[-1].name[5:])
        # The one before is still there while a new one is being written.
        assert done - kept <= 8
    process = start(*words, "--out", str(out), "--resume")
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    one, two = (
        load_checkpoint(checkpoint_folders(run / "checkpoints")[-1]) for run in (tmp_path / "whole", out)
    )
    assert (one.step, one.state) == (two.step, two.state)
    for name, tensors in one.groups.items():
        for key, tensor in tensors.items():
            assert torch.equal(tensor, two.groups[name][key]), f"{name} {key}"


def test_exit_codes_have_names() -> None:
    assert cause(3, oom=False) == "exit code 3"
    assert cause(-11, oom=False) == "SIGSEGV"
    assert cause(-9, oom=True) == "SIGKILL, for the machine was out of memory"
    assert oom_kills() >= 0


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (PeerError("rank 0 could not prepare the run"), True),
        (RuntimeError("[gloo] Connection closed by peer [127.0.0.1]:1"), True),
        (ConfigError("steps must be at least 1"), False),
    ],
)
def test_who_only_lost_another_process_lets_it_end_first(
    error: Exception, waits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr("kinema.train.launch.time.sleep", slept.append)
    tell_launcher(error)
    assert bool(slept) == waits
    assert str(error) in (tmp_path / "error.json").read_text(encoding="utf-8")


def test_a_process_that_told_its_error_was_not_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gloo's threads may abort a process that is ending; what it told before is the cause."""
    told = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(told))
    tell_launcher(ConfigError("no steps"))
    aborted = ProcessFailure(local_rank=0, pid=1, exitcode=-signal.SIGABRT, error_file=str(told))
    silent = ProcessFailure(local_rank=1, pid=2, exitcode=-signal.SIGKILL, error_file=str(tmp_path / "none"))
    assert (_message(aborted), _message(silent)) == ("no steps", "")
    assert _root(ChildFailedError("kinema", {0: aborted, 1: silent})) == (1, silent)
    assert _root(ChildFailedError("kinema", {0: aborted})) == (0, aborted)
