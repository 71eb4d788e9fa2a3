"""Which average of the weights a model has, chosen when the run is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kinema.errors import ConfigError
from kinema.model import load_model, save_model
from kinema.train.checkpoints import latest_checkpoint
from kinema.train.setup import CHECKPOINTS
from kinema.train.state import average_group, horizon_decay, horizon_group


def choose_average(run: Path, decay: float, out: Path) -> dict[str, Any]:
    """Write the model of a run's last checkpoint with the average that it kept at this decay.

    Raises `ConfigError` that names the decays that there are.
    """
    checkpoint = latest_checkpoint(run / CHECKPOINTS)
    if checkpoint is None:
        raise ConfigError(f"{run} has no checkpoints to choose an average from; name the folder of a run")
    groups = dict.fromkeys(key.split("/")[0] for key in checkpoint.tensors)
    if average_group("network") not in groups:
        raise ConfigError(f"{run} trained a LoRA, of which one average is exported; choose a whole model")
    kept = [found for group in groups if (found := horizon_decay(group)) is not None]
    if decay not in kept:
        known = ", ".join(f"{one:g}" for one in kept) or "none, for ema_also was empty"
        raise ConfigError(f"{run} kept no average with decay {decay:g}; it kept: {known}")
    horizon = checkpoint.group(horizon_group(decay))
    averages = {}
    for part in ("network", "text_encoder"):
        if average_group(part) in groups:
            prefix = f"{part}."
            chosen = {
                key.removeprefix(prefix): value for key, value in horizon.items() if key.startswith(prefix)
            }
            averages[part] = checkpoint.group(average_group(part)) | chosen
    save_model(out, load_model(run, ema=False), averages)
    return {"out": str(out), "step": checkpoint.step, "decay": decay, "kept": kept}
