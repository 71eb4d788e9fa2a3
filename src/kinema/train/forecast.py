"""What a run will take, before its first step: tokens, memory, operations and time of each bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kinema.dataset.buckets import Published
from kinema.dataset.config import DataConfig
from kinema.dataset.plan import Plan, PlanRow, make_plan
from kinema.errors import ConfigError
from kinema.model import load_model
from kinema.nn.counting import count_parameters, step_cost
from kinema.nn.precision import computed_in
from kinema.shapes import Size
from kinema.train.config import TrainConfig
from kinema.train.encoders import known_encoders, with_encoders, with_sizes
from kinema.train.optim import AdamW8bitConfig, AdamWConfig, MuonConfig, OptimConfig
from kinema.train.pace import batch_tokens, memory_mb
from kinema.train.sizes import EncoderSizes
from kinema.train.stages import Stage, stages, whole_chain

_HOUR, _DAY = 3600.0, 86400.0


@dataclass(frozen=True, kw_only=True)
class BucketCost:
    """One bucket's share of a stage. `rank_clips` are those that a rank holds at a time, `memory_mb` what it
    then takes, encoders left out; tokens and operations are of one step, all ranks together, and of one clip.
    """

    bucket: str
    steps: float
    rank_clips: int
    tokens: int
    flops: float
    clip_flops: float
    memory_mb: float


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One forward and backward pass of the heaviest bucket in one process: `flops` and `seconds` are its own.

    The most memory that the process held, encoders, averages and all: while the clips were encoded
    (`encode_mb`; None where latents come from a cache), in the pass itself (`step_mb`), and while one clip
    was decoded, as for a preview (`decode_mb`). `later_mb` is what the optimizer adds with its first update.
    """

    bucket: str
    clips: int
    flops: float
    seconds: float
    encode_mb: float | None
    step_mb: float
    decode_mb: float
    later_mb: float

    @property
    def peak_mb(self) -> float:
        """The most of all three."""
        return max(self.encode_mb or 0.0, self.step_mb, self.decode_mb)

    @property
    def memory_text(self) -> str:
        """The same figures in words."""
        encoded = "" if self.encode_mb is None else f"encoding {self.encode_mb:.0f} MB, "
        return (
            f"memory: {encoded}a step {self.step_mb:.0f} MB ({self.later_mb:.0f} MB more from the first "
            f"update on), decoding one clip {self.decode_mb:.0f} MB"
        )

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.flops / self.seconds


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The plan of one stage, with what it costs. `ranks` share the work of a step."""

    name: str
    steps: int
    ranks: int
    plan: Plan
    costs: tuple[BucketCost, ...]

    @property
    def flops(self) -> float:
        """Operations of the whole stage."""
        return sum(cost.steps * cost.flops for cost in self.costs)

    @property
    def heaviest(self) -> tuple[PlanRow, BucketCost]:
        """The bucket whose batch takes most memory."""
        return max(zip(self.plan.rows, self.costs, strict=True), key=lambda pair: pair[1].memory_mb)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Those of the plan, and buckets that the steps do not suffice for."""
        rare = [cost.bucket for cost in self.costs if 0 < cost.steps < 1]
        more = [f"{self.steps} steps are too few for {', '.join(rare)}: it may never train"] if rare else []
        return (*self.plan.warnings, *more)

    def as_dict(self) -> dict[str, Any]:
        """The plan's values, with the costs in its rows."""
        plan = self.plan.as_dict()
        rows = [
            row | {k: v for k, v in asdict(cost).items() if k != "bucket"}
            for row, cost in zip(plan["rows"], self.costs, strict=True)
        ]
        totals = {"steps": self.steps, "flops": self.flops, "warnings": list(self.warnings)}
        return plan | {"rows": rows} | totals

    def as_text(self) -> str:
        """A table, what is left out, warnings."""
        names = ("clips", "batch", "batches", "steps", "tokens", "TFLOP", "est. MB")
        lines = [f"{'bucket':<24}" + "".join(f"{name:>10}" for name in names)]
        for row, cost in zip(self.plan.rows, self.costs, strict=True):
            numbers = (row.clips, row.batch_size, row.batches, cost.steps, cost.tokens, cost.flops / 1e12)
            lines.append(
                f"{row.bucket:<24}" + "".join(f" {n:>9.4g}" for n in numbers) + f" {cost.memory_mb:>9.0f}"
            )
        lines.append(
            "a row: clips and batches of an epoch; tokens and operations of a step; memory of a process, "
            "encoders left out"
        )
        return "\n".join([*lines, *replace(self.plan, warnings=self.warnings).remarks()])


def forecasts(config: TrainConfig, dataset: Path, ranks: int = 1) -> list[Forecast]:
    """One for each stage, on so many processes. Raises what the run would raise before its first step."""
    config, sizes = resolved(whole_chain(config))
    config.parallel.shards(ranks)
    base_mb = process_mb()
    return [
        forecast_of(stage, make_plan(dataset, stage.config.data), sizes, ranks, base_mb)
        for stage in stages(config)
    ]


def resolved(config: TrainConfig) -> tuple[TrainConfig, EncoderSizes]:
    """The config as a run would have it; encoders are opened only for the model that it starts from."""
    if config.start_from is None:
        sizes = EncoderSizes.asked(config)
        return with_sizes(config, sizes), sizes
    started = load_model(config.start_from)
    encoders = known_encoders(config, started)
    return with_encoders(config, encoders, started), EncoderSizes.of(encoders)


def process_mb() -> float:
    """What a process holds before it has a network; of the machine's memory, not a GPU's."""
    return 0.0 if torch.cuda.is_available() else memory_mb(torch.device("cpu"))


def forecast_of(stage: Stage, plan: Plan, sizes: EncoderSizes, ranks: int, base_mb: float = 0.0) -> Forecast:
    """Of a plan that is made; `base_mb` is what a process holds anyhow."""
    clip_ranks = ranks // stage.config.parallel.sequence
    held_mb = base_mb + _weights_mb(stage.config, ranks)
    steps = _expected_steps(plan.rows, stage)
    costs = tuple(
        _cost(row, count, stage.config, sizes, clip_ranks, held_mb)
        for row, count in zip(plan.rows, steps, strict=True)
    )
    total = stage.end - stage.first
    return Forecast(name=stage.name, steps=total, ranks=ranks, plan=plan, costs=costs)


def share_of(batch_size: int, data: DataConfig, clip_ranks: int) -> int:
    """The clips of a batch that one rank goes through. Raises `ConfigError` for an uneven share."""
    if isinstance(data.bucketing, Published):
        return batch_size
    if batch_size % clip_ranks:
        raise ConfigError(
            f"a batch of {batch_size} does not divide among {clip_ranks} ranks; "
            f"set data.batch_multiplier={clip_ranks}, or choose another number of processes"
        )
    return batch_size // clip_ranks


def in_words(seconds: float) -> str:
    """A time for people."""
    if seconds >= _DAY:
        return f"{seconds / _DAY:.1f} days"
    if seconds >= _HOUR:
        return f"{seconds / _HOUR:.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.2g} s"


def optimizer_bytes(optim: OptimConfig) -> float:
    """Of its state, for each weight; Muon's few AdamW weights are counted as Muon's."""
    match optim:
        case AdamWConfig():
            return 8.0
        case AdamW8bitConfig():
            return 2.0
        case MuonConfig():
            return 4.0


def _expected_steps(rows: Sequence[PlanRow], stage: Stage) -> list[float]:
    """Of each bucket in the stage: in proportion to the batches that an epoch fills."""
    bucketing = stage.config.data.bucketing
    drops = isinstance(bucketing, Published) and bucketing.drop_last
    batches = [float(int(row.batches)) if drops else row.batches for row in rows]
    total = sum(batches)
    return [(stage.end - stage.first) * count / total if total else 0.0 for count in batches]


def _cost(  # noqa: PLR0913, PLR0917 - a row and everything that its cost depends on
    row: PlanRow, steps: float, config: TrainConfig, sizes: EncoderSizes, clip_ranks: int, held_mb: float
) -> BucketCost:
    share = share_of(row.batch_size, config.data, clip_ranks)
    clips = -(-share // config.parallel.accumulate)
    shape = sizes.latents(row.bucket_frames, Size(row.height, row.width))
    one = step_cost(config.network, shape, checkpointing=config.gradient_checkpointing)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    each = computed_in(device, config.precision).itemsize
    kept_bytes = one.kept * clips * each / config.parallel.sequence
    latents = (sizes.latent_channels, shape.frames, shape.height, shape.width)
    return BucketCost(
        bucket=row.bucket,
        steps=steps,
        rank_clips=clips,
        tokens=batch_tokens(config.network, latents, share * clip_ranks),
        flops=share * clip_ranks * one.flops,
        clip_flops=one.flops,
        memory_mb=held_mb + kept_bytes / 2**20,
    )


def _weights_mb(config: TrainConfig, ranks: int) -> float:
    """Weights, gradients, optimizer state and averages of the network on one rank."""
    weights = count_parameters(config.network)
    if config.lora is not None:  # what learns is small beside what it is laid on
        return weights * 4 / 2**20
    across = ranks // config.parallel.replicate
    each = 8 + optimizer_bytes(config.optim) + 4 * (1 + len(config.ema_also))
    return weights * each / across / 2**20
