from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.dataset.buckets import BucketRule
from kinema.train import rehearsal
from kinema.train.config import CacheConfig, StageConfig, TrainConfig
from kinema.train.forecast import Measured, forecasts
from kinema.train.loop import train
from kinema.train.parallel import ParallelConfig, join
from kinema.train.rehearsal import heaviest, measure, rehearse
from kinema.train.setup import prepare
from kinema.train.stages import stages


def test_a_rehearsal_leaves_the_run_as_it_was(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    with join(ParallelConfig()) as world:
        run = prepare(small_run, squares, tmp_path / "run", False, world)
        before = {name: value.clone() for name, value in run.state.trained.state_dict().items()}
        generator = torch.get_rng_state()
        _, bucket, clips = heaviest(list(run.forecasts))
        found = rehearse(run, stages(run.config)[0], bucket, clips)
    assert (bucket.frames, clips) == (4, 4)
    assert found.seconds > 0
    assert found.encode_mb is not None
    assert min(found.encode_mb, found.step_mb, found.decode_mb) > 50
    assert found.peak_mb == max(found.encode_mb, found.step_mb, found.decode_mb)
    assert found.later_mb > 0
    assert found.flops == pytest.approx(run.forecasts[0].heaviest[1].flops)
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, before[name]) for name, value in run.state.trained.state_dict().items())
    assert all(parameter.grad is None for parameter in run.state.trained.parameters())


def test_training_begins_with_the_heaviest_bucket_of_all_stages(
    squares: Path, small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = rehearsal.rehearse
    monkeypatch.setattr(
        rehearsal, "rehearse", lambda run, *rest: (seen.append(rest), original(run, *rest))[1]
    )
    still, clip = (BucketRule(resolution="32px", frames=frames) for frames in (1, 4))
    chain = (
        StageConfig(name="stills", steps=1, buckets=(still,)),
        StageConfig(name="clips", steps=1, buckets=(clip,)),
    )
    train(replace(small_run, stage=chain), squares, tmp_path / "run")
    assert [(stage.name, bucket.frames) for stage, bucket, _ in seen] == [("clips", 4)]
    record = json.loads((tmp_path / "run" / "plan.json").read_text())
    assert record["measured"]["seconds"] > 0
    assert record["stages"]["clips"]["rows"][0]["memory_mb"] > 0
    assert (tmp_path / "run" / "plan.png").stat().st_size > 1000


def test_from_caches_nothing_is_encoded(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    cached = replace(
        small_run, data=replace(small_run.data, windows=1), cache=CacheConfig(latents=True, folder=tmp_path)
    )
    with join(ParallelConfig()) as world:
        run = prepare(cached, squares, tmp_path / "run", False, world)
        run.model.autoencoder.encode = None  # type: ignore[method-assign, assignment] # must not be called
        _, bucket, clips = heaviest(list(run.forecasts))
        assert rehearse(run, stages(run.config)[0], bucket, clips).seconds > 0


def test_measured_in_a_process_of_its_own(squares: Path, small_run: TrainConfig) -> None:
    found = forecasts(small_run, squares)
    result = measure(small_run, squares, found)
    assert isinstance(result, Measured)
    assert result.flops == pytest.approx(found[0].heaviest[1].flops)


def test_what_is_too_much_for_here_is_not_tried(
    squares: Path, small_run: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = forecasts(small_run, squares)
    assert "takes at least" in str(measure(small_run, squares, found, budget_s=0))
    monkeypatch.setattr(rehearsal, "free_memory_mb", lambda device: 1.0)
    assert "is not free here" in str(measure(small_run, squares, found))


def _killed(*arguments: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_want_of_memory_ends_the_attempt_alone(
    squares: Path, small_run: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "_alone", _killed)
    assert "it does not fit in memory" in str(measure(small_run, squares, forecasts(small_run, squares)))
