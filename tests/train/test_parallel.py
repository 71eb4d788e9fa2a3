from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from kinema.config import load_config
from kinema.errors import ConfigError
from kinema.runlog import read_metrics
from kinema.train.checkpoints import checkpoint_folders, load_checkpoint
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.train.parallel import ParallelConfig


class Asked(NamedTuple):
    """A run: where to, on from where it was, and what is set besides."""

    out: Path
    resume: bool = False
    blocks: bool = False
    sets: tuple[str, ...] = ()


def together(processes: int, recipe: Path, dataset: Path, *runs: Asked) -> None:
    """Train in so many processes."""
    words = [word for run in runs for word in (str(run.out), _how(run), "|".join(run.sets))]
    script = str(Path(__file__).with_name("together.py"))
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(processes), "--standalone"]
    done = subprocess.run(
        [sys.executable, *torchrun, script, str(recipe), str(dataset), *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def _how(run: Asked) -> str:
    return "resume" if run.resume else "blocks" if run.blocks else "anew"


def alone(recipe: Path, dataset: Path, run: Asked) -> None:
    train(load_config(TrainConfig, recipe, run.sets), dataset, run.out, resume=run.resume)


def weights(out: Path) -> dict[str, Tensor]:
    checkpoint = load_checkpoint(checkpoint_folders(out / "checkpoints")[-1])
    return {f"{g}/{k}": tensor for g, tensors in checkpoint.groups.items() for k, tensor in tensors.items()}


PARTS = ("network", "text_encoder", "ema_network")


def assert_close(first: Path, second: Path, relative: float = 1e-5, parts: tuple[str, ...] = PARTS) -> None:
    """Each part's weights, averages and optimizer moments differ by no more than this share of their norm."""
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    for group in parts:
        names = [name for name in one if name.startswith(f"{group}/")]
        whole = torch.cat([one[name].flatten() for name in names])
        other = torch.cat([two[name].flatten() for name in names])
        assert ((whole - other).norm() / whole.norm()).item() <= relative, group
    for row, same in zip(read_metrics(first), read_metrics(second), strict=True):
        assert (row["bucket"], row["samples"]) == (same["bucket"], same["samples"])
        assert row["loss"] == pytest.approx(same["loss"], rel=1e-4)


def assert_equal(first: Path, second: Path) -> None:
    one, two = weights(first), weights(second)
    assert one.keys() == two.keys()
    assert [name for name in one if not torch.equal(one[name], two[name])] == []


def test_two_processes_are_one(squares: Path, recipe: Path, tmp_path: Path) -> None:
    """With AdamW and Muon, in parts, block by block, with previews, and when they stop and go on."""
    adamw = ("optim.kind='adamw'", "optim.lr=0.001")
    names = ["muon", "adamw", "halves", "parts", "shared", "watched", "blocks"]
    out = {name: tmp_path / name for name in names}
    together(
        2,
        recipe,
        squares,
        Asked(out["muon"]),
        Asked(out["adamw"], sets=adamw),
        Asked(out["halves"], sets=("steps=5",)),
        Asked(out["halves"], resume=True),
        Asked(out["parts"], sets=("parallel.accumulate=2",)),
        Asked(out["shared"], sets=("parallel.sequence=2",)),
        Asked(out["watched"], sets=("preview.every=4",)),
        Asked(out["blocks"], blocks=True),
    )
    assert_equal(out["muon"], out["halves"])
    assert_equal(out["muon"], out["watched"])
    assert len(list((out["watched"] / "samples").glob("*.mp4"))) == 4
    one, adam = Asked(tmp_path / "one"), Asked(tmp_path / "adam", sets=adamw)
    alone(recipe, squares, one)
    alone(recipe, squares, adam)
    assert_close(one.out, out["muon"])
    assert_close(adam.out, out["adamw"])
    assert_close(one.out, out["parts"])
    assert_close(one.out, out["shared"])
    assert_close(one.out, out["blocks"])


def test_two_processes_share_the_training_of_a_lora(squares: Path, recipe: Path, tmp_path: Path) -> None:
    """Also when they share the tokens, and when they stop and go on."""
    alone(recipe, squares, Asked(tmp_path / "base", sets=("steps=2",)))
    lora = (f"start_from='{tmp_path / 'base'}'", "lora.rank=4", "optim.kind='adamw'", "optim.lr=0.001")
    out = {name: tmp_path / name for name in ("one", "two", "halves", "shared")}
    together(
        2,
        recipe,
        squares,
        Asked(out["two"], sets=lora),
        Asked(out["halves"], sets=(*lora, "steps=5")),
        Asked(out["halves"], resume=True, sets=lora),
        Asked(out["shared"], sets=(*lora, "parallel.sequence=2")),
    )
    alone(recipe, squares, Asked(out["one"], sets=lora))
    assert_equal(out["two"], out["halves"])
    for name in ("two", "shared"):
        assert_close(out["one"], out[name], parts=("lora", "ema_lora"))


def test_ranks_that_do_not_come_out_even_are_refused() -> None:
    assert ParallelConfig(replicate=2, sequence=2).shards(8) == 2
    with pytest.raises(ConfigError, match="do not make the 6 processes"):
        ParallelConfig(replicate=4).shards(6)
    with pytest.raises(ConfigError, match="shard 2"):
        ParallelConfig(shard=2).shards(4)
    with pytest.raises(ValueError, match="accumulate must be at least 1"):
        ParallelConfig(accumulate=0)


def test_more_parts_than_clips_are_refused(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    parts = replace(small_run, parallel=ParallelConfig(accumulate=8))
    with pytest.raises(ConfigError, match=r"batch of 4 of bucket 32px .* has no 8 clips"):
        train(parts, squares, tmp_path / "run")


@pytest.mark.slow
def test_two_one_and_four_processes_go_on_with_each_other(
    squares: Path, recipe: Path, tmp_path: Path
) -> None:
    """Also four at once, sharded and replicated, and two pairs that share tokens."""
    changing = tmp_path / "changing"
    together(2, recipe, squares, Asked(changing, sets=("steps=4",)))
    alone(recipe, squares, Asked(changing, resume=True, sets=("steps=7",)))
    together(
        4,
        recipe,
        squares,
        Asked(changing, resume=True),
        Asked(tmp_path / "four"),
        Asked(tmp_path / "copies", sets=("parallel.replicate=2",)),
        Asked(tmp_path / "pairs", sets=("parallel.sequence=2", "gradient_checkpointing=true")),
        Asked(tmp_path / "bf16", sets=("precision='bf16'", "steps=2")),
    )
    alone(recipe, squares, Asked(tmp_path / "one"))
    for name in ("changing", "four", "copies", "pairs"):
        assert_close(tmp_path / "one", tmp_path / name)
