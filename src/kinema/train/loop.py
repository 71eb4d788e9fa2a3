"""The training loop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.checkpoint import save_checkpoint
from kinema.dataset.loader import Batch, iterate_batches
from kinema.diffusion.processes import Process, noise_share
from kinema.errors import Interrupted, TrainingError
from kinema.progress import Progress, Silent
from kinema.runlog import RunLog, read_metrics
from kinema.train.config import TrainConfig
from kinema.train.objective import Draws, Objective, draw
from kinema.train.optim import update_average
from kinema.train.previews import write_previews
from kinema.train.setup import CHECKPOINTS, Run, prepare
from kinema.train.stages import Stage, stages
from kinema.train.stop import StopWish, stop_wish

__all__ = ["TrainConfig", "train"]

_log = logging.getLogger(__name__)
_NOISE_LEVELS = 4


def train(
    config: TrainConfig, dataset: Path, out: Path, resume: bool = False, progress: Progress | None = None
) -> dict[str, Any]:
    """Train on a dataset folder into `out`, which is then a model folder too; return a summary.

    Raises `Interrupted` after Ctrl-C or SIGTERM, with everything saved for `resume`.
    """
    progress = progress or Silent()
    progress.stage("prepare")
    run = prepare(config, dataset, out, resume)
    for refusal in run.refused:
        _log.warning("damaged checkpoint passed over: %s", refusal)
    began, first_step = time.monotonic(), run.state.step
    log = RunLog(out, start_step=first_step, tensorboard=run.config.tensorboard)
    outcome = "failed"
    try:
        with stop_wish() as wish:
            _steps(run, log, progress, wish)
        outcome = "done" if wish.signal_name is None else "stopped"
    except Interrupted:
        outcome = "stopped"
        raise
    finally:
        log.close(run.state.step, outcome)
    return _summary(run, first_step, time.monotonic() - began)


def _steps(run: Run, log: RunLog, progress: Progress, wish: StopWish) -> None:
    progress.stage("train", run.config.steps)
    progress.advance(run.state.step)
    for stage in stages(run.config):
        if run.state.step < stage.end:
            _one_stage(run, stage, log, progress, wish)
    run.export()


def _one_stage(run: Run, stage: Stage, log: RunLog, progress: Progress, wish: StopWish) -> None:
    config, state = run.config, run.state
    step_once = _stepper(run, stage)
    batches = iterate_batches(
        run.dataset, stage.config.data, state.step - stage.first, stored=run.caches.stored
    )
    try:
        while state.step < stage.end:
            step = state.step
            row = step_once(batches)
            log.step(step, **row)
            progress.advance(note=f"loss {row['loss']:.4f}")
            if _due(state.step, config.save_every) or state.step == stage.end or wish.signal_name:
                _save(run)
            if _due(state.step, config.preview.every):
                write_previews(run, log)
            if wish.signal_name and state.step < config.steps:
                raise Interrupted(
                    f"stopped by {wish.signal_name} after step {state.step} of {config.steps}; "
                    f"go on with --resume --out {run.folder}"
                )
    finally:
        batches.close()


def _stepper(run: Run, stage: Stage) -> Callable[[Iterator[Batch]], dict[str, Any]]:
    """One optimisation step, as a function of where the batches come from."""
    config, state, device = stage.config, run.state, run.model.device
    objective = Objective(run.model.text_encoder, config.process, config.precision, config.preset)
    run.model.network.gradient_checkpointing = config.gradient_checkpointing
    if stage.config is not run.config:
        state.retune(config.optim)

    def step_once(batches: Iterator[Batch]) -> dict[str, Any]:
        began = time.monotonic()
        batch = next(batches).to(device)
        waited = time.monotonic() - began
        clean, batch = run.caches.encode(run.model.autoencoder, run.model.text_encoder, batch)
        draws = draw(batch.seeds, tuple(clean.shape[1:]), config).to(device)
        terms = objective(run.model.network, batch, clean, draws)
        rate = config.schedule.factor(state.step - stage.first, config.steps)
        grad_norm, lr = _update(run, batch, terms["loss"].mean(), rate)
        state.step += 1
        state.updates += 1
        state.samples += len(batch.clip_ids)
        return {
            **({"stage": stage.name} if stage.name else {}),
            **{name: value.mean().item() for name, value in terms.items()},
            f"loss_{batch.bucket.frames}f": terms["loss"].mean().item(),
            "loss_by_noise": _by_noise(terms["loss"], draws, config.process),
            "grad_norm": grad_norm,
            "lr": lr,
            "bucket": str(batch.bucket),
            "samples": state.samples,
            "step_s": round(time.monotonic() - began, 4),
            "data_s": round(waited, 4),
        }

    return step_once


def _update(run: Run, batch: Batch, loss: Tensor, rate: float) -> tuple[float, float]:
    """Gradient, clip, step, average. One that is not finite stops the run, naming the clips."""
    state, config = run.state, run.config
    loss.backward()  # type: ignore[no-untyped-call]
    grad_norm = torch.nn.utils.clip_grad_norm_(state.trained.parameters(), config.clip_norm).item()
    if not math.isfinite(loss.item()) or not math.isfinite(grad_norm):
        raise TrainingError(
            f"step {state.step}: loss {loss.item():.4g}, gradient norm {grad_norm:.4g}; "
            f"its clips are {', '.join(dict.fromkeys(batch.clip_ids))}; "
            f"look at them, or lower optim.lr, then go on with --resume"
        )
    lr = state.optimizers.step(rate)
    update_average(state.average, state.trained, config.ema_decay, state.updates)
    return grad_norm, lr


def _by_noise(loss: Float[Tensor, " b"], draws: Draws, process: Process) -> dict[str, float]:
    """Mean loss in each quarter of the noise range that the batch has samples in, low noise first."""
    level = (noise_share(process, draws.index) * _NOISE_LEVELS).long().clamp_max(_NOISE_LEVELS - 1)
    return {str(q): loss[level == q].mean().item() for q in range(_NOISE_LEVELS) if bool((level == q).any())}


def _save(run: Run) -> None:
    state = run.state
    run.caches.flush()
    save_checkpoint(
        run.folder / CHECKPOINTS,
        step=state.step,
        groups=state.groups(),
        state=state.numbers() | {"seed": run.config.seed, "data_seed": run.config.data.seed},
        keep=run.config.keep_checkpoints,
    )
    run.export()


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
