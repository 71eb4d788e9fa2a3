from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.cli import main
from kinema.errors import CheckpointError, TrainingError
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.train.objective import Objective
from kinema.train.optim import AdamWConfig
from kinema.train.replay import read_failure


def test_a_failed_step_is_done_again(
    squares: Path, small_run: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    burning = replace(small_run, optim=AdamWConfig(lr=1e30), clip_norm=1e9, steps=20)
    with pytest.raises(TrainingError, match=r"kinema train --replay .*failed/step-0000000\d\.safetensors"):
        train(burning, squares, tmp_path / "run")
    [file] = (tmp_path / "run" / "failed").glob("*.safetensors")
    assert main(["train", "--replay", str(file), "--json"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert f"step-{again['step']:08d}" == file.stem
    assert again["loss"] in ("nan", "inf")
    assert set(again["clips"]) == {clip for batch, _ in read_failure(file).parts for clip in batch.clip_ids}
    assert again["not_finite"]
    beat = json.loads((tmp_path / "run" / "heartbeat.json").read_text())
    assert beat["state"] == "failed"
    assert beat["cause"].startswith("step ")  # in its own words, no traceback
    assert main(["train", "--replay", str(file)]) == 0
    assert f"and {len(again['not_finite']) - 6} more" in capsys.readouterr().out


def test_a_replay_is_the_same_step(
    squares: Path, small_run: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clip's loss is made infinite; all others have the loss that they had in the run."""
    seen: dict[int, list[float]] = {}
    objective = Objective.__call__

    def broken(self: Objective, network: Any, batch: Any, clean: Any, draws: Any) -> dict[str, torch.Tensor]:
        terms = objective(self, network, batch, clean, draws)
        seen[batch.step] = terms["loss"].tolist()
        if batch.step == 3:
            terms["loss"] = terms["loss"] + torch.tensor([math.inf, *[0.0] * (len(batch.seeds) - 1)])
        return terms

    monkeypatch.setattr(Objective, "__call__", broken)
    with pytest.raises(TrainingError, match="step 3: loss inf"):
        train(small_run, squares, tmp_path / "run")
    monkeypatch.undo()
    from kinema.config import load_config
    from kinema.train.replay import replay

    file = tmp_path / "run" / "failed" / "step-00000003.safetensors"
    again = replay(load_config(TrainConfig, tmp_path / "run" / "resolved.toml"), file)
    assert again["loss"] == pytest.approx(sum(seen[3]) / len(seen[3]), rel=1e-6)
    assert again["not_finite"] == []


def test_another_file_is_refused(tmp_path: Path) -> None:
    from kinema.checkpoint import write_json, write_tensors

    write_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(1)})
    write_json(tmp_path / "a.json", {"parts": []})
    with pytest.raises(CheckpointError, match="not a failed step"):
        read_failure(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=r"they are RUN/failed/step-\*\.safetensors"):
        read_failure(tmp_path)
    with pytest.raises(CheckpointError, match=r"b\.json"):
        read_failure(tmp_path / "b.safetensors")
