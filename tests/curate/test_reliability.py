"""Runs that are killed, starved of disk or fed with what costs too much."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from kinema.curate.overlay_text import TextConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.curate.storage import StorageConfig
from kinema.errors import OutputError
from kinema.files import exclusive
from kinema.manifest import read_clips, read_sources
from kinema.video.container import Limits
from kinema.video.writer import Encoding, write_video

from .conftest import moving_picture

SETTINGS = ["workers=2", "text.detect=off", "storage.mode=transcode", "storage.side=64", "storage.shard_mb=1"]


def command(footage: Path, out: Path, *more: str) -> list[str]:
    sets = [word for setting in [*SETTINGS, *more] for word in ("--set", setting)]
    return [sys.executable, "-m", "kinema", "curate", str(footage), "--out", str(out), *sets, "--json"]


def start(footage: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    return subprocess.Popen(
        command(footage, out, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(footage: Path, out: Path, *more: str) -> dict:
    run = start(footage, out, *more)
    shown, told = run.communicate(timeout=120)
    assert run.returncode == 0, told
    return json.loads(shown.splitlines()[-1])


def result(out: Path) -> tuple:
    shards = {path.name: path.read_bytes() for path in (out / "shards").iterdir()}
    return read_sources(out), read_clips(out), (out / "dataset.toml").read_text(), shards


def children(pid: int) -> list[int]:
    """Of all its threads: each has a list of its own."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return found


def workers(pid: int) -> list[int]:
    """The spawned ones; the resource tracker is left alone."""
    found = []
    for child in children(pid):
        try:
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            pass
    return found


def gone(pids: list[int], seconds: float) -> bool:
    """Whether all have ended within that time; one that nobody has reaped has ended too."""
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if state(pid) not in {"", "Z"}]:
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return not left


def state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    for index in range(8):
        frames = moving_picture(120, index % 5 + 1, speed=2 + index, height=180, width=320)
        write_video(folder / f"{index}.mp4", frames, 20, Encoding(preset="ultrafast"))
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple, float]:
    """What an uninterrupted run gives, and how long it takes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    started = time.monotonic()
    finish(many, out)
    return result(out), time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.85])
def test_a_killed_run_goes_on_and_ends_alike(
    many: Path, whole: tuple[tuple, float], tmp_path: Path, share: float
) -> None:
    expected, seconds = whole
    run = start(many, tmp_path / "out")
    time.sleep(seconds * share)
    left = workers(run.pid)
    run.kill()
    run.communicate()
    assert gone(left, seconds=20)
    finish(many, tmp_path / "out")
    assert result(tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_killed_worker_changes_nothing(
    many: Path, whole: tuple[tuple, float], tmp_path: Path, seed: int
) -> None:
    expected, _ = whole
    run, random, killed = start(many, tmp_path / "out"), Random(seed), 0
    while killed < 2 and run.poll() is None:
        if found := workers(run.pid):
            time.sleep(random.uniform(0, 1))
            with suppress(ProcessLookupError):
                os.kill(random.choice(found), signal.SIGKILL)
                killed += 1
        time.sleep(0.05)
    _, told = run.communicate(timeout=120)
    assert killed
    assert run.returncode == 0, told
    for found, wanted in zip(result(tmp_path / "out"), expected, strict=True):
        if isinstance(found, list):
            for row, other in zip(found, wanted, strict=True):
                assert row == other
        assert found == wanted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=120k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("mode", ["span", "copy", "transcode"])
def test_a_full_disk_stops_and_loses_nothing(many: Path, small_disk: Path, tmp_path: Path, mode: str) -> None:
    out = small_disk / "out"
    storage = StorageConfig(mode=mode, side=64)
    config = CurateConfig(workers=0, text=TextConfig(detect="off"), storage=storage)
    with pytest.raises(OutputError, match=r"cannot write .*No space left|cannot write .*free some space"):
        curate([many], out, config)
    done = [row for row in read_sources(out) if row.status == "done"]
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    summary = curate([many], out, config)
    assert summary.decoded == 8 - len(done)
    curate([many], tmp_path / "straight", config)
    assert read_clips(out) == read_clips(tmp_path / "straight")
    assert read_sources(out) == read_sources(tmp_path / "straight")


def test_what_costs_too_much_is_a_row_with_the_reason(made: Path, tmp_path: Path) -> None:
    # Long enough to be looked at while it is decoded, however fast the machine is.
    long = tmp_path / "long.mp4"
    write_video(long, moving_picture(40, 2).repeat(40, axis=0), 20)
    config = CurateConfig(workers=1, limits=Limits(max_memory_mb=1))
    summary = curate([long], tmp_path / "memory", config)
    assert summary.failed == {str(long): "decoding needs more than 1 MB of memory (see limits)"}
    config = CurateConfig(workers=0, limits=Limits(base_seconds=1e-9, seconds_per_mb=1e-9))
    summary = curate([made / "still.mp4"], tmp_path / "time", config)
    assert "decoding took more than" in summary.failed[str(made / "still.mp4")]


def test_the_share_of_failures_decides(made: Path, tmp_path: Path) -> None:
    summary = curate([made], tmp_path / "out", CurateConfig(workers=0))
    assert (len(summary.failed), summary.sources) == (1, 4)
    assert [summary.is_complete(share) for share in (0.0, 0.24, 0.25, 1.0)] == [False, False, True, True]
    assert not replace(summary, kept=0).is_complete(1.0)


def test_two_runs_do_not_write_one_folder(made: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        exclusive(tmp_path / "out"),
        pytest.raises(OutputError, match="is being written by another run"),
    ):
        curate([made], tmp_path / "out", CurateConfig(workers=0))
    leftover = tmp_path / "out" / "clips" / ".part-0123456789abcdef-a1b2c3_x.parquet"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    (leftover.parent / ".mine").write_text("kept")
    curate([made], tmp_path / "out", CurateConfig(workers=0))
    assert not leftover.exists()
    assert (leftover.parent / ".mine").exists()
