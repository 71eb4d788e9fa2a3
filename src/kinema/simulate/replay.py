"""Step after step in the real order of batches: who waits for whom."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from kinema.dataset.schedule import Schedule
from kinema.shapes import Bucket
from kinema.simulate.cost import CostModel, RankStep


@dataclass(frozen=True, kw_only=True)
class SimulatedStep:
    """A step of all ranks: it lasts as long as its slowest rank; `busy_s` is their mean computing."""

    seconds: float
    busy_s: float
    flops: float
    tokens: int
    clips: int
    slowest: str


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """What a number of steps were like. `idle` is the share of the ranks' time in which they compute nothing,
    `mfu` the network's own operations over what the processors could do at most."""

    steps: int
    step_s: float
    step_s_low: float
    step_s_high: float
    idle: float
    mfu: float
    tokens_per_s: float
    clips_per_s: float
    slowest: dict[str, float]


def replay(
    schedule: Schedule, model: CostModel, steps: int, advance: Callable[[], None] = lambda: None
) -> Replayed:
    """The first `steps` steps."""
    ranks = model.world // model.config.parallel.sequence
    known: dict[tuple[Bucket, int], RankStep] = {}
    done = list[SimulatedStep]()
    for step in range(steps):
        shapes = schedule.shapes(step, ranks)
        for shape in shapes:
            if shape not in known:
                known[shape] = model.step(*shape)
        done.append(_one_step(shapes, known, model))
        advance()
    return _summary(done, model)


def _one_step(
    shapes: list[tuple[Bucket, int]], known: dict[tuple[Bucket, int], RankStep], model: CostModel
) -> SimulatedStep:
    costs = [known[shape] for shape in shapes]
    slowest = max(range(len(costs)), key=lambda rank: costs[rank].seconds)
    sequence = model.config.parallel.sequence
    return SimulatedStep(
        seconds=costs[slowest].seconds,
        busy_s=statistics.fmean(cost.computing_s for cost in costs),
        flops=sum(cost.flops for cost in costs) * sequence,
        tokens=sum(cost.tokens for cost in costs),
        clips=sum(clips for _, clips in shapes),
        slowest=f"{shapes[slowest][0].resolution} {shapes[slowest][0].frames}f",
    )


def _summary(done: list[SimulatedStep], model: CostModel) -> Replayed:
    seconds = [one.seconds for one in done]
    total = sum(seconds)
    peak = model.device.peak_tflops * 1e12 * model.world
    slowest: dict[str, float] = {}
    for one in done:
        slowest[one.slowest] = slowest.get(one.slowest, 0.0) + 1 / len(done)
    ordered = sorted(seconds)
    return Replayed(
        steps=len(done),
        step_s=total / len(done),
        step_s_low=ordered[len(done) // 20],
        step_s_high=ordered[-1 - len(done) // 20],
        idle=1 - sum(one.busy_s for one in done) / total,
        mfu=sum(one.flops for one in done) / (total * peak),
        tokens_per_s=sum(one.tokens for one in done) / total,
        clips_per_s=sum(one.clips for one in done) / total,
        slowest=dict(sorted(slowest.items(), key=lambda item: -item[1])),
    )
