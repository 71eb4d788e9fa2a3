"""Everything that decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kinema.dataset.config import DataConfig
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.masking import MaskConfig
from kinema.diffusion.processes import Process
from kinema.encoders.embedded import PatchPCAConfig, WordTextConfig
from kinema.nn import STDiT2Config
from kinema.train.optim import MuonConfig, OptimConfig, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Sample videos of fixed prompts from the averaged weights; `every` 0 makes none.

    Without prompts, the first `count` different captions of the dataset serve. `steps` and
    `guidance_scale` are also what the finished model uses when it is not told otherwise.
    """

    every: int = 0
    prompts: tuple[str, ...] = ()
    count: int = 2
    steps: int = 30
    guidance_scale: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.every < 0 or self.count < 0:
            raise ValueError(f"every and count must not be negative, got {self.every} and {self.count}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if any(not prompt.strip() for prompt in self.prompts):
            raise ValueError("a preview prompt is empty")


def _small_network() -> STDiT2Config:
    return STDiT2Config(depth=4, hidden=144, heads=6, input_sq_size=64)


def _small_process() -> IDDPMConfig:
    return IDDPMConfig(prediction="clean", learned_variance=False)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run. The channels, tokens and variance of `network` follow the encoders and the process.

    `caption_drop` of the network is the share of captions that are replaced by the null caption.
    `masks` are the probabilities of giving some of a clip's frames.
    """

    network: STDiT2Config = field(default_factory=_small_network)
    process: Process = field(default_factory=_small_process)
    autoencoder: PatchPCAConfig = field(default_factory=lambda: PatchPCAConfig(whitening=0.5))
    text_encoder: WordTextConfig = field(default_factory=lambda: WordTextConfig(width=64))
    data: DataConfig = field(default_factory=DataConfig)
    masks: MaskConfig = field(default_factory=lambda: MaskConfig(first=0.5))
    optim: OptimConfig = field(default_factory=MuonConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    steps: int = 400
    ema_decay: float = 0.99
    clip_norm: float = 1.0
    save_every: int = 100
    keep_checkpoints: int = 2
    fit_batches: int = 16
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    tensorboard: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "clip_norm", "save_every", "keep_checkpoints", "fit_batches"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
