"""Everything that decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kinema.conventions import Preset
from kinema.dataset.buckets import BucketRule
from kinema.dataset.config import DataConfig
from kinema.diffusion.guidance import GuidanceShape
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.masking import MaskConfig
from kinema.diffusion.processes import Process
from kinema.encoders.autoencoder import TemporalAutoencoderConfig
from kinema.encoders.autoencoder_kl import CausalAutoencoderConfig, FrameAutoencoderConfig
from kinema.encoders.clip_text import ClipTextConfig
from kinema.encoders.embedded import PatchPCAConfig, WordTextConfig
from kinema.encoders.pictures import PictureConfig, PictureEncoderConfig
from kinema.encoders.text import T5Config
from kinema.nn import NetworkConfig, STDiT2Config, Task
from kinema.nn.lora import LoRAConfig
from kinema.train.guard import SpikeConfig
from kinema.train.optim import MuonConfig, OptimConfig, ScheduleConfig
from kinema.train.parallel import ParallelConfig


@dataclass(frozen=True, kw_only=True)
class PreviewConfig:
    """Sample videos of fixed prompts from the averaged weights; `every` 0 makes none.

    Without prompts, the first `count` different captions of the dataset serve. `steps` and
    the guidance are also what the finished model uses when it is not told otherwise; so are `guidance_given`
    and `keep_given`, which are for given frames, and `parts_apart`, `motion_guidance` and
    `virtual_camera`, which previews do without. What is not made after `budget_s` seconds is left out, and
    said.
    """

    every: int = 0
    prompts: tuple[str, ...] = ()
    count: int = 2
    steps: int = 30
    guidance_scale: float = 2.0
    guidance_first: float | None = None
    guidance_shape: GuidanceShape = "linear"
    guidance_given: float | None = None
    keep_given: float = 0.0
    parts_apart: float = 0.0
    motion_guidance: float = 0.0
    virtual_camera: bool = False
    seed: int = 0
    budget_s: float = 120.0

    def __post_init__(self) -> None:
        if self.budget_s <= 0:
            raise ValueError(f"budget_s must be above 0, got {self.budget_s}")
        if self.every < 0 or self.count < 0:
            raise ValueError(f"every and count must not be negative, got {self.every} and {self.count}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if any(not prompt.strip() for prompt in self.prompts):
            raise ValueError("a preview prompt is empty")


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """Encodings kept beside the dataset (or beside `folder`) and shared between runs.

    `latents` need `data.windows`; `text` needs an encoder that is not trained along. Nothing is added beyond
    `quota_gb` for all that is kept there. `precision` "fp16" halves the latents' bytes, and rounds them.
    """

    latents: bool = False
    text: bool = False
    quota_gb: float = 100.0
    precision: Literal["fp32", "fp16"] = "fp32"
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.quota_gb <= 0:
            raise ValueError(f"quota_gb must be above 0, got {self.quota_gb}")


def _small_network() -> STDiT2Config:
    return STDiT2Config(depth=4, hidden=144, heads=6, input_sq_size=64)


def _small_process() -> IDDPMConfig:
    return IDDPMConfig(prediction="clean", learned_variance=False)


AutoencoderConfig = (
    PatchPCAConfig | FrameAutoencoderConfig | CausalAutoencoderConfig | TemporalAutoencoderConfig
)
TextEncoderConfig = WordTextConfig | T5Config | ClipTextConfig


@dataclass(frozen=True, kw_only=True)
class PicturesConfig:
    """What image-to-video and interpolation are shown in training.

    ln of the noise on it ~ N(noise_mean, noise_std^2). Of all samples, the context tokens alone, the latents
    alone, or both are left out at these rates, so that guidance has something to push away from.
    """

    noise_mean: float = -3.0
    noise_std: float = 0.5
    drop_tokens: float = 0.05
    drop_latents: float = 0.05
    drop_both: float = 0.05

    def __post_init__(self) -> None:
        rates = (self.drop_tokens, self.drop_latents, self.drop_both)
        if min(rates) < 0 or sum(rates) > 1:
            raise ValueError(f"drop_tokens, drop_latents and drop_both must be shares of 1, got {rates}")
        if self.noise_std < 0:
            raise ValueError(f"noise_std must not be negative, got {self.noise_std}")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a chain: `steps` with its own data and rates. What is not set is the run's own.

    `timesteps` is that of the process (`speed` for SpeeD), `p_mean` and `p_std` those of EDM,
    `video_as_image` that of `data.bucketing` (kind timed). `trains` "time-embedding": nothing else of a video
    UNet changes, while an image network gets used to continuous sigma. A stage's batches are drawn with the
    run's `data.seed` plus the stage's number, from 0.
    """

    name: str
    steps: int
    buckets: tuple[BucketRule, ...] = ()
    batch_size: int | None = None
    masks: MaskConfig | None = None
    lr: float | None = None
    timesteps: Literal["uniform", "speed"] | None = None
    p_mean: float | None = None
    p_std: float | None = None
    trains: Literal["all", "time-embedding"] = "all"
    gradient_checkpointing: bool | None = None
    video_as_image: float | None = None

    def __post_init__(self) -> None:
        if self.video_as_image is not None and not 0 <= self.video_as_image <= 1:
            raise ValueError(f"video_as_image must be in [0, 1], got {self.video_as_image}")
        if self.steps < 1:
            raise ValueError(f"a stage's steps must be at least 1, got {self.steps}")
        if not self.name.strip():
            raise ValueError("a stage needs a name")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run. The channels, tokens and variance of `network` follow the encoders and the process.

    `caption_drop` of the network is the share of captions that are replaced by the null caption.
    `masks` are the probabilities of giving some of a clip's frames, where the task is text-to-video.

    `task` is for a video UNet: from texts, or from `pictures` seen by the `image_encoder` (the first frame of
    each clip, or its first and last), which it is shown beside the noised latents.

    `start_from` is a model folder whose network, encoders and preset the run takes over; where that is a
    run, its averaged weights and optimizer go on as well, unless the captions have words that are new to the
    model: it learns them, from random rows and with a fresh average and optimizer. `stage` is a chain of
    stages in one run; `steps` is then their sum. With `lora` the model of `start_from` stays as it is, and
    low-rank additions to it learn and go to `lora/`. `gradient_checkpointing` computes each block twice to
    keep less in memory. `compile` lets torch.compile make one graph of a transformer's blocks a bucket:
    on a CPU, which needs a C++ compiler, half a minute of waiting or more for each, then faster steps.

    The model has the average of the weights with `ema_decay`; averages with the decays of `ema_also` are
    kept beside it in the checkpoints, to choose from when the run is done. The last `keep_checkpoints`
    checkpoints stay, and those of every `keep_every` steps (0: none more). A line is written every
    `log_every` steps.

    `peak_tflops` is what one processor can do at most, for the share of it that is used (0: it is measured).
    `wandb` is the Weights & Biases project to report to besides (extra `wandb`).
    """

    task: Task = "text-to-video"
    network: NetworkConfig = field(default_factory=_small_network)
    process: Process = field(default_factory=_small_process)
    autoencoder: AutoencoderConfig = field(default_factory=lambda: PatchPCAConfig(whitening=0.5))
    text_encoder: TextEncoderConfig = field(default_factory=lambda: WordTextConfig(width=64))
    image_encoder: PictureEncoderConfig = field(default_factory=PictureConfig)
    pictures: PicturesConfig = field(default_factory=PicturesConfig)
    data: DataConfig = field(default_factory=DataConfig)
    masks: MaskConfig = field(default_factory=lambda: MaskConfig(first=0.5))
    optim: OptimConfig = field(default_factory=MuonConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    preview: PreviewConfig = field(default_factory=PreviewConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    spikes: SpikeConfig = field(default_factory=SpikeConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    preset: Preset = "kinema"
    start_from: Path | None = None
    lora: LoRAConfig | None = None
    stage: tuple[StageConfig, ...] = ()
    trains: Literal["all", "time-embedding"] = "all"
    gradient_checkpointing: bool = False
    compile: bool = False
    steps: int = 400
    ema_decay: float = 0.99
    ema_also: tuple[float, ...] = ()
    clip_norm: float = 1.0
    save_every: int = 100
    keep_checkpoints: int = 2
    keep_every: int = 0
    log_every: int = 20
    fit_batches: int = 16
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    peak_tflops: float = 0.0
    tensorboard: bool = True
    wandb: str = ""

    def __post_init__(self) -> None:
        for name in ("steps", "clip_norm", "save_every", "keep_checkpoints", "fit_batches", "log_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.lora is not None and self.start_from is None:
            raise ValueError("lora needs start_from: the model folder that it is laid on")
        if len({stage.name for stage in self.stage}) < len(self.stage):
            raise ValueError("two stages have the same name")
        if self.peak_tflops < 0:
            raise ValueError(f"peak_tflops must not be negative, got {self.peak_tflops}")
        for decay in (self.ema_decay, *self.ema_also):
            if not 0 <= decay < 1:
                raise ValueError(f"ema_decay and ema_also must be in [0, 1), got {decay}")
        if len({self.ema_decay, *self.ema_also}) <= len(self.ema_also):
            raise ValueError(
                f"ema_also must hold other decays than ema_decay, each once, got {self.ema_also}"
            )
        if self.keep_every < 0:
            raise ValueError(f"keep_every must not be negative, got {self.keep_every}")
