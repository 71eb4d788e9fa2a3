from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.dataset.buckets import BucketRule, Timed
from kinema.errors import CheckpointError, ConfigError, Interrupted, OutputError, TrainingError
from kinema.files import locked
from kinema.model import load_model
from kinema.runlog import learned, read_metrics
from kinema.train.checkpoints import checkpoint_folders, latest_checkpoint
from kinema.train.config import PreviewConfig, TrainConfig
from kinema.train.loop import train
from kinema.train.optim import AdamW8bitConfig, AdamWConfig
from kinema.train.step import StepOnce, source_shares


@pytest.mark.parametrize(
    ("changes", "extra"), [({"wandb": "mine"}, "wandb"), ({"optim": AdamW8bitConfig()}, "eight-bit")]
)
def test_a_missing_extra_is_told_before_anything_is_written(
    changes: dict[str, Any],
    extra: str,
    squares: Path,
    small_run: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in ("kinema.runlog", "kinema.train.optim"):
        monkeypatch.setattr(f"{module}.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=f"needs the extra {extra}"):
        train(replace(small_run, **changes), squares, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_being_trained_is_left_alone(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(replace(small_run, steps=1), squares, out)
    with locked(out), pytest.raises(OutputError, match="is being written by another run"):
        train(replace(small_run, steps=2), squares, out, resume=True)
    assert train(replace(small_run, steps=2), squares, out, resume=True)["steps"] == 2


def remembered(run: Path) -> dict[str, Any]:
    """Everything that a run is, but for wall times."""
    checkpoint = latest_checkpoint(run / "checkpoints")
    assert checkpoint is not None
    rows = learned(read_metrics(run))
    return {"groups": checkpoint.groups, "state": checkpoint.state, "rows": rows, "step": checkpoint.step}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first["rows"] == second["rows"]
    assert (first["step"], first["state"]) == (second["step"], second["state"])
    assert first["groups"].keys() == second["groups"].keys()
    for name, tensors in first["groups"].items():
        assert tensors.keys() == second["groups"][name].keys()
        for key, tensor in tensors.items():
            assert torch.equal(tensor, second["groups"][name][key]), f"{name} {key}"


class KilledError(Exception):
    pass


def stop_after(step: int) -> type:
    class Stopping:
        def stage(self, name: str, total: int | None = None) -> None:
            self.done = 0

        def line(self, text: str) -> None: ...

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.done += steps
            if self.done == step and steps:
                os.kill(os.getpid(), signal.SIGTERM)

    return Stopping


@pytest.mark.parametrize("optim", ["muon", "adamw"])
def test_six_steps_are_three_and_resume_and_three(
    squares: Path, small_run: TrainConfig, tmp_path: Path, optim: str
) -> None:
    if optim == "adamw":
        small_run = replace(small_run, optim=AdamWConfig(lr=1e-3, weight_decay=0.01))
    train(small_run, squares, tmp_path / "whole")
    with pytest.raises(Interrupted, match=r"after step 3 of 6; go on with --resume"):
        train(small_run, squares, tmp_path / "halves", progress=stop_after(3)())
    assert len(read_metrics(tmp_path / "halves")) == 3
    summary = train(small_run, squares, tmp_path / "halves", resume=True)
    assert summary["resumed_from"] == 3
    assert_same(remembered(tmp_path / "whole"), remembered(tmp_path / "halves"))


def test_a_kill_between_checkpoints_loses_nothing_but_time(
    squares: Path, small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small_run, squares, tmp_path / "whole")
    update = StepOnce._update

    def killed_at_five(self: StepOnce, skipped: bool) -> float:
        if self.run.state.step == 5:
            raise KilledError
        return update(self, skipped)

    monkeypatch.setattr(StepOnce, "_update", killed_at_five)
    with pytest.raises(KilledError):
        train(small_run, squares, tmp_path / "killed")
    assert len(read_metrics(tmp_path / "killed")) == 5
    assert json.loads((tmp_path / "killed" / "heartbeat.json").read_text())["state"] == "failed"
    monkeypatch.undo()
    train(small_run, squares, tmp_path / "killed", resume=True)
    assert_same(remembered(tmp_path / "whole"), remembered(tmp_path / "killed"))


def test_previews_do_not_disturb_training(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    train(small_run, squares, tmp_path / "plain")
    watched = replace(small_run, preview=PreviewConfig(every=2, steps=3), tensorboard=True)
    train(watched, squares, tmp_path / "watched")
    assert_same(remembered(tmp_path / "plain"), remembered(tmp_path / "watched"))
    samples = sorted(path.name for path in (tmp_path / "watched" / "samples").glob("*.mp4"))
    assert samples[0] == "step-00000002-0.mp4"
    assert len(samples) == 6


def test_the_run_folder_is_a_model_folder(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    summary = train(small_run, squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert (model.sampling.height, model.sampling.frames, model.sampling.fps) == (32, 4, 6.0)
    assert (model.trained_on.steps, model.trained_on.samples) == (6, summary["samples"])
    assert {"plan.json", "resolved.toml", "metrics.jsonl", "heartbeat.json", "model.toml"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    raw = load_model(tmp_path / "run", ema=False)
    assert not torch.equal(raw.network.t_block[1].weight, model.network.t_block[1].weight)


def test_the_loss_falls(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    summary = train(replace(small_run, steps=60, save_every=60), squares, tmp_path / "run")
    assert summary["last_loss"] < 0.85 * summary["first_loss"]


def test_a_used_folder_is_refused_without_resume(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="--resume"):
        train(small_run, squares, tmp_path)
    with pytest.raises(OutputError, match="no run to resume"):
        train(small_run, squares, tmp_path, resume=True)


def test_resume_with_another_shape_names_the_key(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    train(replace(small_run, steps=3), squares, tmp_path / "run")
    wider = replace(small_run, network=replace(small_run.network, hidden=48))
    with pytest.raises(CheckpointError, match=r"ar_embedder.*has shape \[8\], this network expects \[16\]"):
        train(wider, squares, tmp_path / "run", resume=True)


def test_resume_with_another_encoder_is_refused(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    train(replace(small_run, steps=3), squares, tmp_path / "run")
    other = replace(small_run, autoencoder=replace(small_run.autoencoder, components=5))
    with pytest.raises(CheckpointError, match="autoencoder was made with"):
        train(other, squares, tmp_path / "run", resume=True)


def test_a_damaged_checkpoint_is_said_aloud_and_passed_over(
    squares: Path, small_run: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(small_run, squares, tmp_path / "run")
    [tensors] = checkpoint_folders(tmp_path / "run" / "checkpoints")[-1].glob("*.safetensors")
    tensors.write_bytes(b"")
    summary = train(small_run, squares, tmp_path / "run", resume=True)
    assert summary["resumed_from"] == 3
    assert "step-00000006" in summary["refused_checkpoints"][0]
    assert "step-00000006" in caplog.text


def test_a_loss_that_is_not_a_number_names_the_clips(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    burning = replace(small_run, optim=AdamWConfig(lr=1e30), clip_norm=1e9, steps=20)
    with pytest.raises(TrainingError, match=r"its clips are [0-9a-f]{16}"):
        train(burning, squares, tmp_path / "run")


def test_a_finished_run_resumes_to_the_same(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    train(small_run, squares, tmp_path / "run")
    before = remembered(tmp_path / "run")
    assert train(small_run, squares, tmp_path / "run", resume=True)["steps"] == 6
    assert_same(before, remembered(tmp_path / "run"))


def test_the_realised_mix_of_sources_follows_the_weights_and_outlives_a_resume(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    weights = {"*/red.mp4": 3.0, "*/green.mp4": 1.0}
    data = replace(
        small_run.data,
        buckets=(BucketRule(resolution="32px", frames=4),),
        bucketing=Timed(fps=6.0, source_weights=weights),
    )
    config = replace(small_run, data=data, steps=4, save_every=2)
    train(config, squares, tmp_path / "run")
    shares = [row["source_share"] for row in read_metrics(tmp_path / "run")]
    assert shares[-1] == {"*/red.mp4": 0.75, "*/green.mp4": 0.25}
    train(replace(config, steps=8), squares, tmp_path / "run", resume=True)
    last = latest_checkpoint(tmp_path / "run" / "checkpoints")
    assert last is not None
    assert last.state["sources"] == {"*/red.mp4": 24, "*/green.mp4": 8}


def test_of_many_sources_the_largest_are_named() -> None:
    shares = source_shares(Counter({f"{number:02}": 1 + (number < 2) for number in range(20)}))
    assert list(shares)[:3] == ["00", "01", "02"]
    assert len(shares) == 17
    assert sum(shares.values()) == pytest.approx(1)
