"""The model against figures that were published: what it predicts, what was measured, and what was fitted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kinema.dataset.sampler import build_schedule
from kinema.encoders.text import T5Config
from kinema.manifest import Caption, Clip, clip_id, whole_clip
from kinema.shapes import Bucket
from kinema.simulate.cost import CostModel
from kinema.simulate.devices import DEVICES
from kinema.simulate.replay import replay
from kinema.train.config import TrainConfig
from kinema.train.forecast import resolved
from kinema.train.parallel import ParallelConfig

_H800 = next(device for device in DEVICES if device.name == "h800")
_SQUARE = "1.0"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One published figure. `fitted`: the model's share of the peak was chosen by it."""

    name: str
    unit: str
    predicted: float
    published: float
    fitted: bool = False

    @property
    def ratio(self) -> float:
        """Predicted over published."""
        return self.predicted / self.published


def check(recipe: Callable[[str], TrainConfig], clips: int = 20_000, steps: int = 200) -> list[Compared]:
    """Speeds of single buckets on one H800, steps of whole stages on 64. `recipe` loads one by its name.

    The mix of the published dataset is not known: `assumed_clips` stands for it.
    """
    stage2 = recipe("open-sora-stage2")
    return [
        *_throughputs(stage2),
        *_single_steps(stage2),
        *_stages(recipe, assumed_clips(clips), steps),
    ]


def as_text(compared: list[Compared]) -> str:
    """A line a figure."""
    lines = [f"{'':<40}{'predicted':>12}{'published':>12}{'ratio':>8}"]
    for one in compared:
        mark = "  fitted" if one.fitted else ""
        name = f"{one.name} ({one.unit})"
        lines.append(f"{name:<40}{one.predicted:>12.3g}{one.published:>12.3g}{one.ratio:>8.2f}{mark}")
    off = [abs(math.log(one.ratio)) for one in compared if not one.fitted]
    lines.append(f"typical error of what was not fitted: {math.exp(float(np.median(off))) - 1:.0%}")
    return "\n".join(lines)


def as_record(compared: list[Compared]) -> list[dict[str, Any]]:
    """Plain values."""
    return [
        {
            "name": one.name,
            "unit": one.unit,
            "predicted": one.predicted,
            "published": one.published,
            "ratio": one.ratio,
            "fitted": one.fitted,
        }
        for one in compared
    ]


def _throughputs(stage2: TrainConfig) -> list[Compared]:
    """Open-Sora 1.0 (docs/acceleration.md): samples a second and processor, 120 words."""
    text = stage2.text_encoder
    assert isinstance(text, T5Config)
    short = replace(stage2, text_encoder=replace(text, max_tokens=120), gradient_checkpointing=False)
    rows = (
        ("256", 16, short, 7.0),
        ("512", 16, short, 1.45),
        ("512", 64, replace(short, gradient_checkpointing=True), 0.40),
    )
    return [
        Compared(
            name=f"{frames} frames of {side}x{side}",
            unit="samples/s",
            predicted=1 / _alone(config, Bucket(side, frames, _SQUARE), 1),
            published=published,
            fitted=(side, frames) == ("256", 16),
        )
        for side, frames, config, published in rows
    ]


def _single_steps(stage2: TrainConfig) -> list[Compared]:
    """Seconds of a step by bucket and clips, from the notes in Open-Sora 1.1's configs/.../benchmark.py."""
    rows = (
        ("240p", 16, 16, 4.6),
        ("240p", 32, 8, 4.6),
        ("240p", 128, 2, 4.28),
        ("480p", 16, 4, 4.6),
        ("720p", 16, 2, 5.89),
        ("256", 1, 256, 4.5),
        ("512", 1, 96, 4.7),
        ("480p", 1, 50, 4.0),
        ("1024", 1, 32, 6.8),
        ("1080p", 1, 16, 8.6),
    )
    return [
        Compared(
            name=f"{clips} x {frames} frames of {name}",
            unit="s/step",
            predicted=_alone(stage2, Bucket(name, frames, "0.56" if name.endswith("p") else _SQUARE), clips),
            published=seconds,
        )
        for name, frames, clips, seconds in rows
    ]


def _stages(recipe: Callable[[str], TrainConfig], clips: list[Clip], steps: int) -> list[Compared]:
    """A step of the published stages on 64 H800, and the days that the report gives for all their steps."""
    found = []
    for number, step_s, days in ((2, 7.0, 1.0), (3, 13.0, 1.0)):
        config, sizes = resolved(recipe(f"open-sora-stage{number}"))
        config = replace(config, parallel=ParallelConfig())
        model = CostModel(config=config, sizes=sizes, device=_H800, world=64)
        simulated = replay(build_schedule(clips, config.data), model, steps).step_s
        name = f"stage {number} on 64 H800"
        found.append(Compared(name=name, unit="s/step", predicted=simulated, published=step_s))
        total = config.steps * simulated / 86400
        found.append(Compared(name=name, unit="days", predicted=total, published=days))
    return found


def assumed_clips(count: int, seed: int = 0) -> list[Clip]:
    """Stand-ins for the published dataset: 9.7 million videos to 2.6 million images, half of them 720p, a
    third 1080p, the rest 480p and 360p; videos at 24 frames a second, 2 to 20 s, shorter ones more often."""
    generator = np.random.default_rng(seed)
    sizes = np.array([(720, 1280), (1080, 1920), (480, 854), (360, 640)])
    chosen = generator.choice(len(sizes), size=count, p=[0.5, 0.33, 0.1, 0.07])
    video = generator.random(count) < 9.7 / (9.7 + 2.6)
    seconds = np.exp(generator.uniform(math.log(2), math.log(20), size=count))
    return [
        _clip(number, tuple(sizes[chosen[number]].tolist()), float(seconds[number]) if video[number] else 0.0)
        for number in range(count)
    ]


def _clip(number: int, size: tuple[int, ...], seconds: float) -> Clip:
    height, width = size
    frames = max(1, round(24 * seconds))
    return whole_clip(
        clip_id=clip_id(str(number), 0, frames),
        source_id=str(number),
        source_path=f"{number}.mp4",
        frames=frames,
        fps=24.0 if seconds else 0.0,
        width=width,
        height=height,
        duration_s=seconds,
        captions=(Caption(text="a clip", kind="video"),),
    )


def _alone(config: TrainConfig, bucket: Bucket, clips: int) -> float:
    """Seconds of a step on one processor."""
    config, sizes = resolved(config)
    return CostModel(config=config, sizes=sizes, device=_H800, world=1).step(bucket, clips).seconds
