from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from kinema.runlog import RunLog, read_heartbeat, read_metrics, record_death


def test_rows_are_appended_and_readable_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    log.step(0, loss=1.5, bucket="64px/8/1:1")
    assert read_metrics(tmp_path) == [{"step": 0, "loss": 1.5, "bucket": "64px/8/1:1"}]
    log.close(1, "done")


def test_resume_cuts_the_rows_that_are_done_again(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    for step in range(5):
        log.step(step, loss=float(step))
    log.close(5, "stopped")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    RunLog(tmp_path, start_step=3, tensorboard=False).close(3, "stopped")
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 1, 2]


def test_the_heartbeat_tells_who_and_how(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    log.step(0, loss=1.0)
    assert json.loads((tmp_path / "heartbeat.json").read_text())["state"] == "running"
    log.close(1, "done")
    beat = json.loads((tmp_path / "heartbeat.json").read_text())
    assert (beat["pid"], beat["step"], beat["state"]) == (os.getpid(), 1, "done")


def test_a_death_is_told_with_every_step_that_was_done(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tensorboard=False)
    for step in range(5):  # in less than the two seconds between heartbeats
        log.step(step, loss=1.0)
    assert read_heartbeat(tmp_path)["step"] == 1
    record_death(tmp_path, rank=1, cause="SIGKILL", message="")
    beat = read_heartbeat(tmp_path)
    assert (beat["state"], beat["step"], beat["rank"], beat["pid"]) == ("died", 5, 1, os.getpid())
    log.close(5, "done")


def test_tensorboard_holds_scalars_and_an_animated_sample(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = RunLog(tmp_path)
    log.step(0, loss=2.5, bucket="x")
    frames = np.zeros((4, 16, 24, 3), np.uint8)
    frames[2:, :, 12:] = 255
    log.video("sample/0", frames, 8.0, 0)
    log.close(1, "done")
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("train/loss")] == [2.5]
    assert events.Images("sample/0")[0].encoded_image_string[:4] == b"GIF8"
