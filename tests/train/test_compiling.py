"""torch.compile in a run: the same losses, a graph for each bucket, nothing left out in silence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from kinema.runlog import read_metrics
from kinema.train.compiling import compiled_graphs
from kinema.train.config import TrainConfig
from kinema.train.loop import train

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("default"),  # the compiler warns of itself
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile on a CPU needs a C++ compiler"),
]


@pytest.mark.parametrize("network", ["transformer", "unet"])
def test_a_compiled_run_has_the_losses_of_a_plain_one(
    squares: Path, small_run: TrainConfig, small_unet_run: TrainConfig, tmp_path: Path, network: str
) -> None:
    config = small_run if network == "transformer" else small_unet_run
    train(config, squares, tmp_path / "plain")
    before = compiled_graphs()
    train(replace(config, compile=True), squares, tmp_path / "compiled")
    plain, compiled = (read_metrics(tmp_path / name) for name in ("plain", "compiled"))
    assert [row["loss"] for row in compiled] == pytest.approx([row["loss"] for row in plain], rel=1e-3)
    buckets = {row["bucket"] for row in compiled}
    assert compiled[-1]["graphs"] - before == len(buckets)
    assert "graphs" not in plain[-1]
