"""The trainer: a second process, checkpoints and previews, resuming, memory over a long run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w
import torch

from kinema.bench.figures import Figure, report
from kinema.curate.pipeline import CurateConfig, curate
from kinema.runlog import read_metrics
from kinema.train.checkpoints import Checkpoints, latest_checkpoint
from kinema.train.parallel import ParallelConfig, join
from kinema.video.writer import write_video

_SMALL: dict[str, Any] = {
    "tensorboard": False,
    "save_every": 100_000,
    "network": {"depth": 4, "hidden": 192, "heads": 6, "input_sq_size": 64},
    "data": {"batch_size": 16, "buckets": [{"resolution": "64px", "frames": 8}], "bucketing": {"fps": 8.0}},
    "preview": {"steps": 30},
}
_BATCH = 64
_TURNS = 3


PARTS = ("scaling", "overhead", "resume", "wait", "memory")


def run(
    steps: int = 12, long_steps: int = 2000, gigabytes: float = 1.0, only: str | None = None
) -> dict[str, Any]:
    """Figures of small runs in processes of one thread each, on synthetic clips."""
    with tempfile.TemporaryDirectory(prefix="kinema-bench-") as folder:
        work = Path(folder)
        dataset = _dataset(work)
        parts: dict[str, Callable[[], list[Figure]]] = {
            "scaling": lambda: [_scaling(dataset, work, steps)],
            "overhead": lambda: [_overhead(dataset, work, 8 * steps)],
            "resume": lambda: [_resume(work, gigabytes)],
            "wait": lambda: _waits(dataset, work, 2 * steps),
            "memory": lambda: [_memory(dataset, work, long_steps)] if long_steps else [],
        }
        figures = [figure for name in PARTS if only in (None, name) for figure in parts[name]()]
    return report("train", figures)


def _scaling(dataset: Path, work: Path, steps: int) -> Figure:
    """Samples a second of two processes over those of one; rounds take turns, after one that fills the cache.

    Of a batch of 64 clips: exchanging weights and gradients takes as long for any batch, and is a quarter
    of the step when the batch is 16. Latents come from the cache: otherwise the loader of a single process
    decodes and encodes on the core that is free, and two processes have none.
    """
    data = _SMALL["data"] | {"batch_size": _BATCH, "windows": 1}
    paces: dict[int, list[float]] = {1: [], 2: []}
    _train(dataset, work / "scaling-fill", 1, steps=2, data=data, cache={"latents": True})
    for turn in range(_TURNS):
        for processes, pace in paces.items():
            out = work / f"scaling-{processes}-{turn}"
            _train(dataset, out, processes, steps=steps, data=data, cache={"latents": True})
            pace.append(statistics.median(row["step_s"] for row in read_metrics(out)[steps // 3 :]))
    one, two = (statistics.median(pace) for pace in paces.values())
    return Figure(
        name="two processes over one",
        value=_BATCH / two,
        unit="samples/s",
        peer="one process",
        peer_value=_BATCH / one,
        target=1.7,
    )


def _overhead(dataset: Path, work: Path, steps: int) -> Figure:
    """What a checkpoint and a preview in the middle of a run add to the time of its steps."""
    out = work / "watched"
    _train(
        dataset,
        out,
        1,
        steps=steps,
        save_every=steps // 2,
        preview={"every": steps // 2, "steps": 30, "count": 1},
    )
    rows = read_metrics(out)
    training = sum(row["step_s"] for row in rows)
    whole = rows[-1]["elapsed_s"] - rows[0]["elapsed_s"] + rows[0]["step_s"]
    return Figure(
        name=f"a checkpoint and a preview in {steps} steps",
        value=whole / training - 1,
        unit="of the training time",
        target=0.05,
        bounds="value",
        better="lower",
    )


def _resume(work: Path, gigabytes: float) -> Figure:
    """Seconds to find, verify and read a checkpoint."""
    tensors = {f"matrix{i}": torch.rand(1024, 1024) for i in range(round(gigabytes * 2**30 / 2**22))}
    with join(ParallelConfig()) as world:
        checkpoints = Checkpoints(work / "large", world, keep=1)
        checkpoints.save(1, {"network": tensors}, {})
        checkpoints.wait()
        began = time.perf_counter()
        found = latest_checkpoint(work / "large", world)
        assert found is not None
        found.fill({f"network/{name}": tensor for name, tensor in tensors.items()})
        seconds = time.perf_counter() - began
    name = f"resume from a checkpoint of {gigabytes:g} GB"
    return Figure(name=name, value=seconds, unit="s", target=10.0, bounds="value", better="lower")


def _waits(dataset: Path, work: Path, steps: int) -> list[Figure]:
    """The share of the steps' time in which a run waits for its batch: encoding as it goes, and from a cache.

    From the cache, of the second of two runs: the first filled it.
    """
    data = _SMALL["data"] | {"windows": 1}
    figures = []
    for name, cache, target in (("online", {}, 0.10), ("from the cache", {"latents": True}, 0.03)):
        for turn in range(1 + len(cache)):
            out = work / f"wait-{len(cache)}-{turn}"
            _train(dataset, out, 1, steps=steps, data=data, cache=cache)
        rows = read_metrics(out)[steps // 6 :]
        waited = sum(row["data_s"] for row in rows) / sum(row["step_s"] for row in rows)
        figures.append(
            Figure(
                name=f"waiting for a batch, {name}",
                value=waited,
                unit="of the steps' time",
                target=target,
                bounds="value",
                better="lower",
            )
        )
    return figures


def _memory(dataset: Path, work: Path, steps: int) -> Figure:
    """Growth of the largest process's memory from a tenth of the run to its end."""
    out = work / "long"
    tiny = {"depth": 1, "hidden": 24, "heads": 2, "input_sq_size": 64}
    data = _SMALL["data"] | {"batch_size": 4}
    _train(dataset, out, 2, steps=steps, save_every=steps // 8, network=tiny, data=data)
    held = [row["memory_mb"] for row in read_metrics(out)]
    early = statistics.median(held[steps // 10 : steps // 5])
    late = statistics.median(held[-steps // 10 :])
    name = f"memory at the end of {steps} steps over that after warm-up"
    return Figure(
        name=name, value=late, unit="MB", peer="after warm-up", peer_value=early, target=1.05, better="lower"
    )


def _train(dataset: Path, out: Path, processes: int, **changes: Any) -> None:  # noqa: ANN401 - TOML values
    recipe = out.with_suffix(".toml")
    recipe.write_text(tomli_w.dumps(_SMALL | changes), encoding="utf-8")
    words = [str(recipe), "--dataset", str(dataset), "--out", str(out), "--nproc", str(processes)]
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "kinema", "train", *words],
        env=one_thread,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def _dataset(work: Path) -> Path:
    """Four clips of two seconds."""
    footage = work / "footage"
    footage.mkdir()
    for number in range(4):
        frames = np.random.default_rng(number).integers(0, 255, (48, 8, 8, 3), np.uint8)
        still = frames.repeat(12, axis=1).repeat(12, axis=2) // (8, 4, 2, 1)[number]
        write_video(footage / f"clip {number}.mp4", still[:1].repeat(48, axis=0) // 2 + still // 8, fps=24)
    config = CurateConfig()
    curate([str(footage)], work / "dataset", replace(config, workers=0))
    return work / "dataset"
