"""A recipe on processors that are not here: time, idle share, storage and network of every stage."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinema.dataset.plan import make_plan
from kinema.dataset.sampler import build_schedule
from kinema.dataset.store import kept_clips
from kinema.errors import ConfigError
from kinema.manifest import Clip, read_sources
from kinema.nn.counting import count_parameters
from kinema.progress import Progress
from kinema.runlog import read_metrics
from kinema.shapes import Bucket
from kinema.simulate.cost import PUBLISHED_SHARE, CostModel
from kinema.simulate.devices import Device
from kinema.simulate.replay import Replayed, replay
from kinema.train.config import TrainConfig
from kinema.train.forecast import forecast_of, in_words, optimizer_bytes, resolved
from kinema.train.sizes import EncoderSizes
from kinema.train.stages import Stage, stages, whole_chain

_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """`world` processors that reach `share` of their peak."""

    device: Device
    world: int
    share: float = PUBLISHED_SHARE


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """Of storage, in all; and of what a node sends and reads, a second."""

    footage: float
    latents: float
    checkpoints: float
    node_network_per_s: float
    node_reads_per_s: float


def simulate(
    config: TrainConfig, dataset: Path, cluster: Cluster, steps: int, progress: Progress
) -> dict[str, Any]:
    """Replay at most `steps` steps of each stage, and say what all of its steps come to."""
    config, sizes = resolved(whole_chain(config))
    config.parallel.shards(cluster.world)
    clips, found = kept_clips(dataset), dict[str, Any]()
    for stage in stages(config):
        model = CostModel(
            config=stage.config, sizes=sizes, device=cluster.device, world=cluster.world, share=cluster.share
        )
        found[stage.name or "run"] = _stage(stage, dataset, clips, model, steps, progress)
    days = sum(one["days"] for one in found.values())
    return {
        "device": cluster.device.name,
        "world": cluster.world,
        "nodes": -(-cluster.world // cluster.device.a_node),
        "share_of_peak": cluster.share,
        "stages": found,
        "days": days,
    }


def as_text(summary: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{summary['world']} {summary['device']} in {summary['nodes']} nodes, each at "
        f"{summary['share_of_peak']:.0%} of its peak (an assumption: give your own with --share)"
    ]
    for name, one in summary["stages"].items():
        slow = ", ".join(f"{bucket} {share:.0%}" for bucket, share in list(one["slowest"].items())[:3])
        lines += [
            "",
            f"{name}: {one['all_steps']} steps, {one['days']:.2f} days ({one['steps']} steps replayed)",
            f"  step           {one['step_s']:.3g} s (nine of ten: {one['step_s_low']:.3g} to "
            f"{one['step_s_high']:.3g} s); the slowest rank has {slow}",
            f"  idle, mfu      {one['idle']:.1%} of the processors' time, {one['mfu']:.1%}",
            f"  throughput     {one['clips_per_s']:.4g} clips/s, {one['tokens_per_s']:.4g} tokens/s",
            f"  memory         {one['memory_gb']:.1f} GB in the heaviest bucket, encoders left out"
            + ("" if one["fits"] else f": MORE than {summary['device']} has"),
            f"  a node         sends {_rate(one['node_network_per_s'])}, "
            f"reads {_rate(one['node_reads_per_s'])}",
            f"  storage        footage {_size(one['footage'])}, latents if cached {_size(one['latents'])}, "
            f"checkpoints {_size(one['checkpoints'])}",
        ]
    return "\n".join([*lines, "", f"in all: {in_words(summary['days'] * _DAY)}"])


def share_of(run: Path) -> float:
    """The share of the peak that a run's log has: the median of its steps' `mfu`."""
    shares = [float(row["mfu"]) for row in read_metrics(run) if "mfu" in row]
    if not shares:
        raise ConfigError(f"{run} has no metrics.jsonl with mfu in it; name another run, or give --share")
    return min(1.0, statistics.median(shares))


def _stage(  # noqa: PLR0913, PLR0917 - a stage and everything around it
    stage: Stage, dataset: Path, clips: list[Clip], model: CostModel, steps: int, progress: Progress
) -> dict[str, Any]:
    plan = make_plan(dataset, stage.config.data)  # says in words when there is nothing to train on
    all_steps = stage.end - stage.first
    progress.stage(f"simulate {stage.name}".strip(), min(steps, all_steps))
    schedule = build_schedule(clips, stage.config.data)
    replayed = replay(schedule, model, min(steps, all_steps), progress.advance)
    forecast = forecast_of(stage, plan, model.sizes, model.world)
    memory_gb = forecast.heaviest[1].memory_mb / 1024
    return {
        "all_steps": all_steps,
        "days": all_steps * replayed.step_s / _DAY,
        **asdict(replayed),
        "memory_gb": memory_gb,
        "fits": memory_gb < model.device.memory_gb,
        **asdict(_bytes(dataset, clips, schedule.members(0), model, replayed)),
    }


def _bytes(
    dataset: Path,
    clips: Sequence[Clip],
    members: dict[Bucket, list[Clip]],
    model: CostModel,
    replayed: Replayed,
) -> Bytes:
    config = model.config
    rates = _bytes_a_second_of_footage(dataset)
    footage = sum(rates.get(clip.source_id, 0.0) * max(clip.duration_s, 1.0) for clip in clips)
    latents = sum(latent_bytes(bucket, model.sizes) * len(held) for bucket, held in members.items())
    offered = sum(len(held) for held in members.values())
    each = latents / max(1, offered) if config.cache.latents else footage / max(1, len(clips))
    weights = count_parameters(config.network)
    kept = config.keep_checkpoints
    a_weight = 4 + 4 * (1 + len(config.ema_also)) + optimizer_bytes(config.optim)
    nodes = -(-model.world // model.device.a_node)
    # Of a ring over all nodes, one of a node's processors talks to the next node; replicas add their sums.
    sent = model.gathered_bytes if model.shards > model.device.a_node else 0.0
    return Bytes(
        footage=footage,
        latents=float(latents * max(1, config.data.windows)),
        checkpoints=weights * a_weight * kept,
        node_network_per_s=sent / replayed.step_s if nodes > 1 else 0.0,
        node_reads_per_s=each * replayed.clips_per_s / nodes,
    )


def latent_bytes(bucket: Bucket, sizes: EncoderSizes) -> int:
    """Of one clip, in float32."""
    shape = sizes.latents(bucket.frames, bucket.size)
    return sizes.latent_channels * shape.frames * shape.height * shape.width * 4


def _bytes_a_second_of_footage(dataset: Path) -> dict[str, float]:
    """Of each source; images count as a second."""
    return {
        source.source_id: source.bytes / max(source.duration_s, 1.0)
        for source in read_sources(dataset)
        if source.status == "done"
    }


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def _rate(number: float) -> str:
    return f"{_size(number)}/s"
