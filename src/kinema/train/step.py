"""One optimisation step: a batch, its gradient in parts, the update, and what there is to say about it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from kinema.dataset.loader import Batch
from kinema.diffusion.processes import noise_share
from kinema.encoders.protocols import EncodedText
from kinema.errors import ConfigError, TrainingError
from kinema.nn.compiling import compile_network, compiled_graphs
from kinema.train.encoders import choose_trained
from kinema.train.objective import draw, objective_of
from kinema.train.pace import batch_flops, batch_tokens, memory_mb
from kinema.train.parallel import average_gradients, synchronise, whole
from kinema.train.replay import write_failure
from kinema.train.setup import Run
from kinema.train.stages import Stage
from kinema.train.watch import Watchdog

_NOISE_LEVELS = 4
_MOST_SOURCES = 16
"""That a row of the metrics names."""


@dataclass(kw_only=True)
class Told:
    """What a rank says of its part of a step: a number for each of its samples, and its own facts."""

    bucket: str
    frames: int
    clips: list[str]
    sources: tuple[str, ...] = ()
    terms: dict[str, list[float]] = field(default_factory=dict)
    levels: list[float] = field(default_factory=list)
    tokens: int = 0
    flops: float = 0.0
    data_s: float = 0.0
    memory_mb: float = 0.0


@dataclass(kw_only=True)
class StepOnce:
    """The steps of a stage. `peak` is what one rank can do at most, in floating-point operations a second."""

    run: Run
    stage: Stage
    watchdog: Watchdog | None = None
    peak: float = 0.0

    def __post_init__(self) -> None:
        self._seen: list[tuple[Batch, Tensor]] = []
        run, config = self.run, self.stage.config
        self._objective = objective_of(run.model, config)
        if config.compile:
            compile_network(run.model.network)
        run.model.network.gradient_checkpointing = config.gradient_checkpointing
        choose_trained(run.state.trained, "all")
        if config is not run.config:
            run.state.retune(config.optim)
        choose_trained(run.state.trained, config.trains)

    def __call__(self, batches: Iterator[Batch]) -> dict[str, Any]:
        """Do a step; the row for the metrics, the same on all ranks."""
        run, state, config = self.run, self.run.state, self.stage.config
        began = time.monotonic()
        self._watched("begin")
        batch = next(batches)
        self._watched("computing", str(batch.bucket), tuple(batch.clip_ids))
        told = Told(
            bucket=str(batch.bucket),
            frames=batch.bucket.frames,
            clips=list(batch.clip_ids),
            sources=batch.sources,
        )
        told.data_s = time.monotonic() - began
        self._gradient(batch.to(run.world.device), told)
        self._watched("waiting for the other ranks")
        told.memory_mb = memory_mb(run.world.device)
        grad_norm = whole(torch.nn.utils.clip_grad_norm_(_trainable(run), config.clip_norm)).item()
        everyone = run.world.gather(told)
        clips = everyone[:: run.world.size // run.world.clip_ranks]
        losses = [loss for one in clips for loss in one.terms["loss"]]
        self._check(losses, grad_norm, clips)
        skipped = state.guard.is_spike(grad_norm)
        lr = self._update(skipped)
        state.step += 1
        state.updates += 1
        state.samples += len(losses)
        state.images += sum(len(one.clips) for one in clips if one.frames == 1)
        state.sources.update(source for one in clips for source in one.sources)
        row = self._row(clips, grad_norm, lr, skipped)
        self._watched("end")
        return row | self._pace(everyone, clips, time.monotonic() - began)

    def _watched(self, phase: str, bucket: str = "", clips: tuple[str, ...] = ()) -> None:
        match self.watchdog, phase:
            case None, _:
                return
            case Watchdog() as watchdog, "begin":
                watchdog.begin(self.run.state.step)
            case Watchdog() as watchdog, "end":
                watchdog.end()
            case Watchdog() as watchdog, _:
                watchdog.phase(phase, bucket, clips)

    def _pace(self, everyone: list[Told], clips: list[Told], seconds: float) -> dict[str, Any]:
        """Facts of this machine and moment: another run of the same step has other ones."""
        used = sum(one.flops for one in clips) / (seconds * self.peak * len(everyone)) if self.peak else None
        return {
            "data_s": round(max(one.data_s for one in everyone), 4),
            "step_s": round(seconds, 4),
            "tokens_per_s": round(sum(one.tokens for one in clips) / seconds, 1),
            **({"mfu": round(used, 4)} if used else {}),
            **({"graphs": compiled_graphs()} if self.stage.config.compile else {}),
            "memory_mb": round(max(one.memory_mb for one in everyone), 1),
        }

    def _gradient(self, batch: Batch, told: Told) -> None:
        """Of the mean loss over this rank's clips, part by part."""
        run, config = self.run, self.stage.config
        parts = _parts(batch, config.parallel.accumulate)
        self._seen = []
        for number, uncoded in enumerate(parts, 1):
            synchronise(run.state.trained, last=number == len(parts))
            clean, part = run.caches.encode(run.model.autoencoder, run.model.text_encoder, uncoded)
            self._seen.append((part, clean))
            shape = tuple(clean.shape[1:])
            draws = draw(part.seeds, shape, config).to(run.world.device)
            terms = self._objective(run.model.network, part, clean, draws)
            (terms["loss"].sum() / len(batch.seeds)).backward()  # type: ignore[no-untyped-call]
            for name, values in terms.items():
                told.terms.setdefault(name, []).extend(values.tolist())
            told.tokens += batch_tokens(config.network, shape, len(part.seeds))
            words = run.model.text_encoder.max_tokens
            told.flops += batch_flops(config.network, shape, words, len(part.seeds))
            told.levels += noise_share(config.process, draws.index).tolist()
        average_gradients(run.state.trained, run.world)

    def _check(self, losses: list[float], grad_norm: float, clips: list[Told]) -> None:
        loss = sum(losses) / len(losses)
        if math.isfinite(loss) and math.isfinite(grad_norm):
            return
        named = dict.fromkeys(clip for one in clips for clip in one.clips)
        file = write_failure(self.run, self.stage, self._seen)
        raise TrainingError(
            f"step {self.run.state.step}: loss {loss:.4g}, gradient norm {grad_norm:.4g}; "
            f"its clips are {', '.join(named)}; look at them, or lower optim.lr, then go on with --resume; "
            f"to do this step again: kinema train --replay {file}"
        )

    def _update(self, skipped: bool) -> float:
        """Change the weights and their averages, or leave all as it is; the first rate."""
        state, config = self.run.state, self.stage.config
        rate = config.schedule.factor(state.step - self.stage.first, config.steps)
        if skipped:
            return state.optimizers.skip(rate)
        lr = state.optimizers.step(rate)
        state.update_averages(config.ema_decay)
        return lr

    def _row(self, clips: list[Told], grad_norm: float, lr: float, skipped: bool) -> dict[str, Any]:
        state = self.run.state
        means = {name: _mean([v for one in clips for v in one.terms[name]]) for name in clips[0].terms}
        by_bucket: dict[str, list[float]] = {}
        by_frames: dict[int, list[float]] = {}
        by_noise: dict[str, list[float]] = {}
        for one in clips:
            by_bucket.setdefault(one.bucket, []).extend(one.terms["loss"])
            by_frames.setdefault(one.frames, []).extend(one.terms["loss"])
            for loss, level in zip(one.terms["loss"], one.levels, strict=True):
                quarter = min(int(level * _NOISE_LEVELS), _NOISE_LEVELS - 1)
                by_noise.setdefault(str(quarter), []).append(loss)
        return {
            **({"stage": self.stage.name} if self.stage.name else {}),
            **means,
            **{f"loss_{frames}f": _mean(values) for frames, values in by_frames.items()},
            "loss_by_bucket": {bucket: _mean(values) for bucket, values in by_bucket.items()},
            "loss_by_noise": {quarter: _mean(by_noise[quarter]) for quarter in sorted(by_noise)},
            "grad_norm": grad_norm,
            "lr": lr,
            "bucket": " ".join(by_bucket),
            "samples": state.samples,
            "image_share": state.images / state.samples,
            "source_share": source_shares(state.sources),
            **({"skipped": state.guard.skipped} if skipped else {}),
        }


def source_shares(counted: Counter[str]) -> dict[str, float]:
    """Of all samples so far, each source's part; of many sources, those with most and the sum of the rest."""
    total = sum(counted.values())
    named = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    shares = {source: count / total for source, count in named[:_MOST_SOURCES]}
    if rest := sum(count for _, count in named[_MOST_SOURCES:]):
        shares["other sources"] = rest / total
    return shares


def check_parts(run: Run, stage: Stage) -> None:
    """Raise `ConfigError` where a rank would have fewer clips of a bucket than parts to go through."""
    parts, ranks = stage.config.parallel.accumulate, run.world.clip_ranks
    data = stage.config.data
    for rule in data.buckets:
        if rule.keep_prob > 0 and data.batch_size_of(rule) // ranks < parts:
            raise ConfigError(
                f"parallel.accumulate = {parts}: a batch of {data.batch_size_of(rule)} of bucket "
                f"{rule.resolution} with frames = {rule.frames}, on {ranks} ranks, has no {parts} clips each"
            )


def _parts(batch: Batch, count: int) -> list[Batch]:
    """The batch cut in `count` parts as even as can be: every field that has an entry a clip is cut."""
    clips = len(batch.seeds)
    edges = [clips * number // count for number in range(count + 1)]
    return [_rows(batch, slice(begin, end)) for begin, end in pairwise(edges)]


def _rows(batch: Batch, rows: slice) -> Batch:
    cut: dict[str, Any] = {}
    for item in fields(batch):
        match getattr(batch, item.name):
            case EncodedText() as text:
                cut[item.name] = EncodedText(*(part[rows] for part in text))
            case dict() as scores:
                cut[item.name] = {name: values[rows] for name, values in scores.items()}
            case Tensor() | list() | tuple() as values:
                cut[item.name] = values[rows]
    return replace(batch, **cut)


def _trainable(run: Run) -> list[Tensor]:
    return [parameter for parameter in run.state.trained.parameters() if parameter.grad is not None]


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
