from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from kinema.train.watch import Watchdog


def _begin_after_six(watchdog: Watchdog) -> None:
    for step in range(6):
        watchdog.begin(step)
        watchdog.end()
    watchdog.begin(6)


def _hang_until_told(watchdog: Watchdog, folder: Path) -> None:
    deadline = time.monotonic() + 20
    while not (folder / "watchdog.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    watchdog.end()


def test_a_step_that_hangs_is_told_with_rank_and_clips(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watchdog(tmp_path, rank=3, floor_s=0.2) as watchdog:
        _begin_after_six(watchdog)
        watchdog.phase("computing", "64px 8f 64x64", ("aa", "bb"))
        _hang_until_told(watchdog, tmp_path)
    [row] = [json.loads(line) for line in (tmp_path / "watchdog.jsonl").read_text().splitlines()]
    assert (row["rank"], row["step"], row["phase"], row["clips"]) == (3, 6, "computing", ["aa", "bb"])
    assert "rank 3: step 6" in caplog.text
    assert "it is computing; bucket 64px 8f 64x64, clips aa, bb" in caplog.text


def test_a_batch_that_does_not_come_is_told_without_clips(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Watchdog(tmp_path, rank=0, floor_s=0.2) as watchdog:
        _begin_after_six(watchdog)
        _hang_until_told(watchdog, tmp_path)
    assert caplog.messages[0].endswith("it is waiting for data")


def test_usual_steps_and_the_first_ones_are_not_told(tmp_path: Path) -> None:
    with Watchdog(tmp_path, rank=0, floor_s=0.1) as watchdog:
        watchdog.begin(0)  # nothing to compare with
        time.sleep(0.3)
        watchdog.end()
        for step in range(1, 8):
            watchdog.begin(step)
            time.sleep(0.01)
            watchdog.end()
    assert not (tmp_path / "watchdog.jsonl").exists()
