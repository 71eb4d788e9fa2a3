"""How long ranks wait for the slowest one: the published order of batches against kinema's, simulated."""

from __future__ import annotations

from typing import Any

import numpy as np

from kinema.bench.figures import Figure, report
from kinema.dataset.buckets import Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.presets import STAGES
from kinema.dataset.sampler import build_schedule
from kinema.dataset.schedule import PlannedBatch, Schedule
from kinema.manifest import Clip, whole_clip
from kinema.nn import STDiT2Config
from kinema.nn.flops import LatentShape, training_flops

_SIZES = [
    (720, 1280),
    (1080, 1920),
    (1920, 1080),
    (480, 854),
    (360, 640),
    (640, 640),
    (240, 426),
    (2160, 3840),
]
_SECONDS = (2.0, 4.0, 8.0, 16.0, 30.0)


def run(clips: int = 60_000, world: int = 64, steps: int = 300) -> dict[str, Any]:
    """Idle share of `world` ranks over `steps` steps, for the tables of the three published stages.

    The cost of a batch is its floating-point operations in the XL/2 network. Ranks start each step together.
    """
    footage = simulated_clips(clips)
    figures = []
    for name, rules in STAGES.items():
        published = DataConfig(buckets=rules, bucketing=Published())
        own = DataConfig(buckets=rules, bucketing=Timed(video_as_image=0.2), batch_multiplier=world)
        shares = [idle_share(build_schedule(footage, config), world, steps) for config in (own, published)]
        figures.append(
            Figure(
                name=f"idle share, {name}, {world} ranks",
                value=shares[0],
                unit="of the time",
                peer="the published random order",
                peer_value=shares[1],
                target=1 / 3,
                better="lower",
            )
        )
    return report("idle", figures)


def idle_share(schedule: Schedule, world: int, steps: int) -> float:
    """1 - (work done) / (ranks x time of the slowest rank, summed over steps)."""
    costs = np.array(
        [[batch_cost(schedule.batch(step, rank, world)) for rank in range(world)] for step in range(steps)]
    )
    return float(1 - costs.mean(axis=1).sum() / costs.max(axis=1).sum())


def batch_cost(batch: PlannedBatch) -> float:
    """Operations of a training step on this batch; latents are an eighth of the pixels each way."""
    size = batch.bucket.size
    shape = LatentShape(frames=batch.bucket.frames, height=size.height // 8, width=size.width // 8, words=200)
    return len(batch.samples) * training_flops(STDiT2Config.xl2(), shape)


def simulated_clips(count: int, seed: int = 0) -> list[Clip]:
    """Clips of usual sizes, rates and lengths, a fifth of them images."""
    generator = np.random.default_rng(seed)
    made = []
    for index in range(count):
        height, width = _SIZES[generator.integers(len(_SIZES))]
        fps = float(generator.choice([24.0, 25.0, 30.0, 60.0]))
        image = generator.random() < 0.2
        seconds = 0.0 if image else float(generator.choice(_SECONDS)) * float(generator.uniform(0.7, 1.3))
        frames = 1 if image else int(seconds * fps)
        made.append(
            whole_clip(
                clip_id=f"{index:08x}",
                source_id="simulated",
                source_path="simulated.mp4",
                frames=frames,
                fps=0.0 if image else fps,
                width=width,
                height=height,
                duration_s=seconds,
            )
        )
    return made
