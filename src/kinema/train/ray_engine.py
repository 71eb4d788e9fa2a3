"""The same training under Ray Train, where the cluster is Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kinema.errors import ConfigError, TrainingError
from kinema.train.config import TrainConfig


def train_on_ray(
    config: TrainConfig, dataset: Path, out: Path, workers: int, *, resume: bool = False
) -> dict[str, Any]:
    """`train` in so many Ray workers, one a GPU; paths must be readable on all nodes.

    Ray starts the processes and their group; everything else is the trainer's own.
    """
    try:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise ConfigError(f'--engine ray needs the extra ray: pip install "kinema[ray]" ({error})') from None
    gpus = torch.cuda.is_available()
    asked = {"config": config, "dataset": dataset.resolve(), "out": out.resolve(), "resume": resume}
    trainer = TorchTrainer(
        _work,
        train_loop_config=asked,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        torch_config=TorchConfig(backend="nccl" if gpus else "gloo"),
        run_config=RunConfig(storage_path=f"{out.resolve()}-ray"),
    )
    try:
        result = trainer.fit()
    except Exception as error:
        raise TrainingError(f"a Ray worker failed: {str(error).strip().splitlines()[-1]}") from error
    summary: dict[str, Any] = dict(result.metrics or {})
    return summary


def _work(asked: dict[str, Any]) -> None:
    from ray import train as ray_train

    from kinema.train.loop import train

    ray_train.report(train(asked["config"], asked["dataset"], asked["out"], asked["resume"]))
