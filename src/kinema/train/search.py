"""The batch size of every bucket at which steps take equally long and memory suffices, found by trying."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from kinema.dataset.buckets import BucketRule
from kinema.dataset.plan import PlanRow
from kinema.progress import Progress
from kinema.shapes import Bucket, resolution
from kinema.train.config import TrainConfig
from kinema.train.forecast import Forecast, Measured, forecasts
from kinema.train.pace import free_memory_mb
from kinema.train.rehearsal import rehearse, run_alone
from kinema.train.stages import stages

TOLERANCE = 0.1
"""By which a step may differ from the base bucket's."""
_BY_PROPORTION, _MOST_TRIES = 5, 16
_NEVER = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A bucket's rule with the batch size that was found, and what a step of it took. `against_base` is its
    time over the base bucket's; `problem` says why it does not match, or that not one clip fits.
    """

    stage: str
    rule: BucketRule
    seconds: float
    peak_mb: float
    against_base: float
    problem: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self.rule) | {name: value for name, value in asdict(self).items() if name != "rule"}


def search(
    config: TrainConfig, dataset: Path, progress: Progress, limit_mb: float | None = None
) -> list[Tuned]:
    """One entry for each rule that gets clips; the base of a stage is the one with most operations a step.

    Passes of noise in one process: the sizes are for one rank, and `data.batch_multiplier` makes the table
    serve more. `limit_mb` None is what is free now, of the GPU where there is one.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    limit_mb = limit_mb or free_memory_mb(device)
    found = list[Tuned]()
    for number, forecast in enumerate(forecasts(config, dataset)):
        rows = _heaviest_first(forecast)
        progress.stage(f"batch sizes {forecast.name}".strip(), len(rows))
        base: Measured | None = None
        for row, flops in rows:
            clips = max(1, round((base.flops / flops) if base else _configured(config, row)))
            task = _Task(
                stage=number,
                bucket=Bucket(row.resolution, row.bucket_frames, _key(row)),
                target_s=base.seconds if base else None,
                limit_mb=limit_mb,
            )
            measured = _apart(config, dataset, task, clips)
            base = base or measured
            found.append(_tuned(config, number, row, measured, base))
            progress.advance(note=row.bucket)
    return found


def with_sizes_found(config: TrainConfig, found: Sequence[Tuned]) -> TrainConfig:
    """The config with the batch sizes that were found; rules without clips stay as they are."""
    sizes = {(one.stage, one.rule.resolution, one.rule.frames): one.rule.batch_size for one in found}

    def table(stage: str, rules: Sequence[BucketRule]) -> tuple[BucketRule, ...]:
        return tuple(
            replace(rule, batch_size=sizes.get((stage, rule.resolution, rule.frames), rule.batch_size))
            for rule in rules
        )

    if not config.stage:
        return replace(config, data=replace(config.data, buckets=table("", config.data.buckets)))
    chain = [
        replace(stage, buckets=table(stage.name, stage.buckets or config.data.buckets))
        for stage in config.stage
    ]
    return replace(config, stage=tuple(chain))


def equal_time(
    attempt: Callable[[int], Measured], clips: int, target_s: float, limit_mb: float
) -> Measured | None:
    """The pass whose time is nearest the target and whose memory suffices, beginning with so many clips.

    By proportion first, then by halves. None when not even one clip fits.
    """
    low, high = 0, _NEVER
    best: Measured | None = None
    for tried in range(_MOST_TRIES):
        measured = attempt(clips)
        if not fits(measured, limit_mb):
            high, wanted = clips, (low + clips) // 2
        else:
            ratio = measured.seconds / target_s
            if best is None or abs(ratio - 1) < abs(best.seconds / target_s - 1):
                best = measured
            low, high = (clips, high) if ratio < 1 else (low, clips)
            wanted = round(clips / ratio) if tried < _BY_PROPORTION else (low + min(high, 2 * low + 2)) // 2
            if abs(ratio - 1) <= TOLERANCE:
                break
        if high - low <= 1:
            break
        clips = min(max(wanted, low + 1), high - 1)
    return best


def largest_fitting(attempt: Callable[[int], Measured], clips: int, limit_mb: float) -> Measured | None:
    """So many clips, or half as often as it takes to fit. None when not even one does."""
    while clips:
        measured = attempt(clips)
        if fits(measured, limit_mb):
            return measured
        clips //= 2
    return None


def fits(measured: Measured, limit_mb: float) -> bool:
    """Whether the memory suffices, the optimizer's share included."""
    return measured.peak_mb + measured.later_mb <= limit_mb


def as_text(found: Sequence[Tuned]) -> str:
    """A row for each bucket."""
    lines = [f"{'bucket':<24}{'batch size':>12}{'seconds':>10}{'of base':>9}{'MB':>8}"]
    for one in found:
        name = f"{one.stage} {one.rule.resolution} x {one.rule.frames}".strip()
        numbers = (
            f"{one.rule.batch_size or 0:>12}{one.seconds:>10.3g}{one.against_base:>9.2f}{one.peak_mb:>8.0f}"
        )
        lines.append(f"{name:<24}{numbers}{'  ' * bool(one.problem)}{one.problem}")
    return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Task:
    """`target_s` None for the base bucket, whose time is the target of the others."""

    stage: int
    bucket: Bucket
    target_s: float | None
    limit_mb: float


def _apart(config: TrainConfig, dataset: Path, task: _Task, clips: int) -> Measured | None:
    """In a process of its own, so that memory is that of this bucket, and its end ends nothing else."""
    while clips:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                return pool.submit(_tried, config, dataset, task, clips).result()
            except BrokenProcessPool:  # killed for want of memory
                clips //= 2
    return None


def _tried(config: TrainConfig, dataset: Path, task: _Task, clips: int) -> Measured | None:
    with run_alone(config, dataset) as run:
        attempt = partial(rehearse, run, stages(run.config)[task.stage], task.bucket)
        if task.target_s is None:
            return largest_fitting(attempt, clips, task.limit_mb)
        return equal_time(attempt, clips, task.target_s, task.limit_mb)


def _heaviest_first(forecast: Forecast) -> list[tuple[PlanRow, float]]:
    """Of each rule the bucket that most clips are in, and the operations of one clip; by those of a batch."""
    rows: dict[tuple[str, int], tuple[PlanRow, float]] = {}
    for row, cost in zip(forecast.plan.rows, forecast.costs, strict=True):
        rule = (row.resolution, row.bucket_frames)
        if row.clips and (rule not in rows or rows[rule][0].clips < row.clips):
            rows[rule] = (row, cost.flops / row.batch_size)
    return sorted(rows.values(), key=lambda pair: -pair[0].batch_size * pair[1])


def _configured(config: TrainConfig, row: PlanRow) -> float:
    """Clips that one rank goes through at a time."""
    return row.batch_size / config.data.batch_multiplier / config.parallel.accumulate


def _key(row: PlanRow) -> str:
    sizes = resolution(row.resolution).sizes
    return next(key for key, size in sizes.items() if (size.height, size.width) == (row.height, row.width))


def _tuned(
    config: TrainConfig, number: int, row: PlanRow, measured: Measured | None, base: Measured | None
) -> Tuned:
    stage = stages(config)[number]
    [rule] = [
        rule
        for rule in stage.config.data.buckets
        if (rule.resolution, rule.frames) == (row.resolution, row.bucket_frames)
    ]
    if measured is None or base is None:
        return Tuned(
            stage=stage.name,
            rule=rule,
            seconds=0.0,
            peak_mb=0.0,
            against_base=0.0,
            problem="not one clip fits",
        )
    ratio = measured.seconds / base.seconds
    problem = ""
    if ratio > 1 + TOLERANCE:
        problem = (
            "one clip more or less changes more than the tolerance"
            if measured.clips > 1
            else "one clip takes longer"
        )
    elif ratio < 1 - TOLERANCE:
        problem = "memory or whole clips allow no more"
    return Tuned(
        stage=stage.name,
        rule=replace(rule, batch_size=measured.clips * config.parallel.accumulate),
        seconds=measured.seconds,
        peak_mb=measured.peak_mb + measured.later_mb,
        against_base=ratio,
        problem=problem,
    )
