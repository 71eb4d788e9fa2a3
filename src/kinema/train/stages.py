"""A chain of stages: each goes on with the weights, the average and the optimizer of the one before."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kinema.dataset.buckets import Timed
from kinema.diffusion.edm import EDMConfig
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.train.config import StageConfig, TrainConfig
from kinema.train.optim import AdamW8bitConfig, AdamWConfig, MuonConfig, OptimConfig


@dataclass(frozen=True)
class Stage:
    """Steps `first` to `end` (not included) of a run; `config` is that of a run of this stage alone."""

    name: str
    first: int
    end: int
    config: TrainConfig


def stages(config: TrainConfig) -> tuple[Stage, ...]:
    """The stages of a run, one when it names none."""
    if not config.stage:
        return (Stage("", 0, config.steps, config),)
    found, first = list[Stage](), 0
    for number, stage in enumerate(config.stage):
        alone = stage_config(config, stage, number)
        found.append(Stage(stage.name, first, first + stage.steps, alone))
        first += stage.steps
    return tuple(found)


def whole_chain(config: TrainConfig) -> TrainConfig:
    """The config whose `steps` are those of all its stages."""
    return replace(config, steps=stages(config)[-1].end)


def stage_config(config: TrainConfig, stage: StageConfig, number: int) -> TrainConfig:
    """The config of a run that is this stage alone."""
    bucketing = config.data.bucketing
    if stage.video_as_image is not None and isinstance(bucketing, Timed):
        bucketing = replace(bucketing, video_as_image=stage.video_as_image)
    data = replace(
        config.data,
        bucketing=bucketing,
        buckets=stage.buckets or config.data.buckets,
        batch_size=stage.batch_size or config.data.batch_size,
        seed=config.data.seed + number,
    )
    process = config.process
    if stage.timesteps is not None and isinstance(process, IDDPMConfig):
        process = replace(process, timesteps=stage.timesteps)
    if isinstance(process, EDMConfig):
        process = replace(
            process,
            p_mean=process.p_mean if stage.p_mean is None else stage.p_mean,
            p_std=process.p_std if stage.p_std is None else stage.p_std,
        )
    checkpointing = stage.gradient_checkpointing
    return replace(
        config,
        stage=(),
        steps=stage.steps,
        data=data,
        process=process,
        masks=stage.masks or config.masks,
        trains=stage.trains,
        optim=config.optim if stage.lr is None else at_rate(config.optim, stage.lr),
        gradient_checkpointing=config.gradient_checkpointing if checkpointing is None else checkpointing,
    )


def at_rate(optim: OptimConfig, lr: float) -> OptimConfig:
    """The same optimizer at another rate; Muon's AdamW keeps its proportion to it."""
    match optim:
        case AdamWConfig() | AdamW8bitConfig():
            return replace(optim, lr=lr)
        case MuonConfig():
            return replace(optim, lr=lr, adamw=replace(optim.adamw, lr=optim.adamw.lr * lr / optim.lr))
