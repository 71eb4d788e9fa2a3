"""What an ablation will take, from a few measured steps of the very training and sampling that it does."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kinema.ablate.work import Job, prompt_lines, train_on
from kinema.errors import ConfigError, DecodeError
from kinema.evaluate.features import build_features
from kinema.evaluate.metrics import EvaluateConfig, video_metrics
from kinema.evaluate.sampling import find_spans, sample
from kinema.generate.batch import generate_all
from kinema.model import load_model
from kinema.progress import Progress
from kinema.runlog import read_metrics
from kinema.train.config import TrainConfig

_STEPS, _SAMPLER_STEPS = 4, 3


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Seconds of a training step, of a video of the full number of sampler steps, of judging one video."""

    step_s: float
    video_s: float
    judge_s: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What is left to do: models, steps over all of them, videos to make and to judge, and how long it
    takes."""

    models: int
    steps: int
    videos: int
    judged: int
    devices: tuple[str, ...]
    rates: Rates
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def as_text(self) -> str:
        """One line for people."""
        return (
            f"{self.models} models: {self.steps} training steps at {self.rates.step_s:.3g} s, {self.videos} "
            f"videos at {self.rates.video_s:.3g} s, {self.judged} judgements at {self.rates.judge_s:.3g} s; "
            f"about {minutes(self.seconds)} on {', '.join(self.devices)}"
        )


def minutes(seconds: float) -> str:
    """Short words for a time."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"


def measure(folder: Path, view: Path, job: Job, progress: Progress) -> Rates:
    """Train the job a few steps and make one short-sampled video in `folder`, which is removed again.

    Raises `ConfigError` when the videos would be too short for `evaluate.sampling`.
    """
    shutil.rmtree(folder, ignore_errors=True)
    preview = replace(job.train.preview, every=0)
    short = replace(job.train, steps=_STEPS, stage=(), save_every=_STEPS, preview=preview, tensorboard=False)
    train_on(short, view, folder / "run", progress)
    step_s = statistics.median(row["step_s"] for row in read_metrics(folder / "run")[1:])
    lines = prompt_lines(job.prompts[:1], steps=_SAMPLER_STEPS)
    made = generate_all(folder / "run", lines, folder / "samples", batch_size=1, progress=progress)
    full = load_model(folder / "run").sampling.steps / _SAMPLER_STEPS
    judge_s = _judging(folder / "samples", job.evaluate)
    shutil.rmtree(folder)
    return Rates(step_s=step_s, video_s=made["seconds"] * full, judge_s=judge_s)


def _judging(samples: Path, config: EvaluateConfig) -> float:
    began = time.monotonic()
    (span,) = find_spans(samples)
    try:
        frames = sample(span, config.sampling)
    except DecodeError as error:
        raise ConfigError(
            f"evaluate.sampling asks for {config.sampling.frames} frames at {config.sampling.fps:g} fps, and "
            f"the models make shorter videos ({error}); set evaluate.sampling.frames and .fps"
        ) from error
    build_features(config.features)(frames)
    video_metrics(span, config)
    return time.monotonic() - began


def cost_of(jobs: Sequence[Job], references: int, rates: Rates, devices: Sequence[str]) -> Cost:
    """Of the jobs that are not done yet."""
    left = [job for job in jobs if not job.is_done]
    steps = sum(_steps(job.train) + (job.images.steps if job.images else 0) for job in left)
    videos = sum(len(job.prompts) for job in left)
    judged = videos + references * len(left)
    seconds = steps * rates.step_s + videos * rates.video_s + judged * rates.judge_s
    return Cost(
        models=len(left),
        steps=steps,
        videos=videos,
        judged=judged,
        devices=tuple(devices),
        rates=rates,
        seconds=round(seconds / max(1, min(len(devices), len(left))), 1),
    )


def _steps(config: TrainConfig) -> int:
    return sum(stage.steps for stage in config.stage) or config.steps
