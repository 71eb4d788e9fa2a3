"""torch.compile in a run: the same losses, a graph for each bucket, nothing left out in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.errors import ConfigError
from kinema.nn.compiling import compiled_graphs
from kinema.runlog import read_metrics
from kinema.train.config import TrainConfig
from kinema.train.loop import train


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the compiler warns of itself
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler")
def test_a_compiled_run_has_the_losses_of_a_plain_one(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    train(small_run, squares, tmp_path / "plain")
    before = compiled_graphs()
    train(replace(small_run, compile=True), squares, tmp_path / "compiled")
    plain, compiled = (read_metrics(tmp_path / name) for name in ("plain", "compiled"))
    assert [row["loss"] for row in compiled] == pytest.approx([row["loss"] for row in plain], rel=1e-3)
    buckets = {row["bucket"] for row in compiled}
    assert compiled[-1]["graphs"] - before == len(buckets)
    assert "graphs" not in plain[-1]


def test_a_video_unet_is_not_compiled_in_silence(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="compile is for"):
        train(replace(small_unet_run, compile=True), squares, tmp_path / "run")
