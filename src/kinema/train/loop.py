"""The training loop."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from kinema.dataset.loader import iterate_batches
from kinema.errors import Interrupted
from kinema.files import locked
from kinema.progress import Progress, Silent
from kinema.runlog import read_metrics
from kinema.train.config import TrainConfig
from kinema.train.pace import measured_peak
from kinema.train.parallel import World, join
from kinema.train.previews import write_previews
from kinema.train.rehearsal import open_run
from kinema.train.reporting import Reporter
from kinema.train.setup import RESOLVED, Run, prepare
from kinema.train.stages import stages
from kinema.train.step import StepOnce, check_parts
from kinema.train.stop import StopWish, stop_wish
from kinema.train.watch import Watchdog

__all__ = ["TrainConfig", "train"]

_log = logging.getLogger(__name__)


def train(
    config: TrainConfig, dataset: Path, out: Path, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Train on a dataset folder into `out`, which is then a model folder too; return a summary.

    Under torchrun every process calls this, and they train together; only rank 0 reports progress.
    Raises `Interrupted` after Ctrl-C or SIGTERM, with everything saved for `resume`.
    """
    with join(config.parallel) as world:
        return _train(config, dataset, out, resume, (progress or Silent()) if world.main else Silent(), world)


def _train(  # noqa: PLR0913, PLR0917 - what train has, and its world
    config: TrainConfig, dataset: Path, out: Path, resume: bool, progress: Progress, world: World
) -> dict[str, Any]:
    progress.stage("prepare")
    with ExitStack() as held:

        def lock() -> None:
            if world.main:
                held.enter_context(locked(out))

        goes_on = world.any((out / RESOLVED).is_file())
        if goes_on:
            world.first(lock)
        run = prepare(config, dataset, out, resume, world)
        if not goes_on:
            world.first(lock)
        return _trained(run, progress)


def _trained(run: Run, progress: Progress) -> dict[str, Any]:
    world = run.world
    for refusal in run.refused if world.main else ():
        _log.warning("damaged checkpoint passed over: %s", refusal)
    open_run(run, progress)
    began, first_step = time.monotonic(), run.state.step
    with (
        run.caches.held(),
        Reporter(run, progress) as reporter,
        stop_wish(launched=world.size > 1) as wish,
        Watchdog(run.folder, world.rank) as watchdog,
    ):
        _steps(run, reporter, wish, watchdog)
    return _summary(run, first_step, time.monotonic() - began)


def _steps(run: Run, reporter: Reporter, wish: StopWish, watchdog: Watchdog) -> None:
    config, device = run.config, run.world.device
    peak = config.peak_tflops * 1e12 or measured_peak(device, config.precision)
    reporter.start()
    try:
        for stage in stages(run.config):
            if run.state.step < stage.end:
                step_once = StepOnce(run=run, stage=stage, watchdog=watchdog, peak=peak)
                _one_stage(step_once, reporter, wish)
    finally:
        run.checkpoints.wait()


def _one_stage(step_once: StepOnce, reporter: Reporter, wish: StopWish) -> None:
    run, stage = step_once.run, step_once.stage
    config, state, world = run.config, run.state, run.world
    check_parts(run, stage)
    batches = iterate_batches(
        run.dataset,
        stage.config.data,
        state.step - stage.first,
        world.clip_rank,
        world.clip_ranks,
        stored=run.caches.stored,
    )
    try:
        while state.step < stage.end:
            reporter.step(step_once(batches))
            stopped = world.any(wish.reason is not None)
            if _due(state.step, config.save_every) or state.step == stage.end or stopped:
                run.save()
            if stopped and state.step < config.steps:
                run.checkpoints.wait()
                raise Interrupted(
                    f"stopped by {wish.reason or 'a signal'} after step {state.step} of {config.steps}; "
                    f"go on with --resume --out {run.folder}"
                )
            if _due(state.step, config.preview.every):
                write_previews(run, reporter)
    finally:
        batches.close()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _summary(run: Run, first_step: int, seconds: float) -> dict[str, Any]:
    rows = read_metrics(run.folder)
    share = max(1, len(rows) // 20)
    return {
        "out": str(run.folder),
        "steps": run.state.step,
        "resumed_from": first_step or None,
        "samples": run.state.samples,
        "parameters": sum(p.numel() for p in run.state.trained.parameters()),
        "first_loss": _mean_loss(rows[:share]),
        "last_loss": _mean_loss(rows[-share:]),
        "last_loss_by_frames": _by_frames(rows),
        "skipped_steps": run.state.guard.skipped,
        "processes": run.world.size,
        "seconds": round(seconds, 2),
        "refused_checkpoints": list(run.refused),
    }


def _mean_loss(rows: list[dict[str, Any]]) -> float | None:
    return sum(row["loss"] for row in rows) / len(rows) if rows else None


def _by_frames(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean loss of each clip length over its last quarter of rows: long clips must not lag behind."""
    lengths = {name for row in rows for name in row if name.startswith("loss_") and name.endswith("f")}
    found = {}
    for name in sorted(lengths, key=lambda name: int(name[5:-1])):
        values = [row[name] for row in rows if name in row]
        last = values[-max(1, len(values) // 4) :]
        found[name[5:-1]] = sum(last) / len(last)
    return found
