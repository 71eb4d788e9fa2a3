"""Many prompts into one folder: those of one shape in one forward pass, and none made twice."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from kinema.checkpoint import read_json, write_json
from kinema.errors import CheckpointError, ConfigError, KinemaError
from kinema.files import writable_folder
from kinema.generate.film import Film
from kinema.generate.loading import ready_model
from kinema.generate.pipeline import (
    Job,
    prepare,
    reference_records,
    request_record,
    sidecar,
    sidecar_path,
    warn_of_unknown_words,
    write_film,
)
from kinema.generate.prompts import PromptLine
from kinema.generate.repeatable import repeatable
from kinema.generate.windows import Made, row_of, sample_batch, sample_windows, shown_frames
from kinema.model import Model
from kinema.progress import Progress


@dataclass(frozen=True, kw_only=True)
class _Item:
    job: Job
    out: Path

    @property
    def shape(self) -> tuple[object, ...]:
        """What items of one batch share; a plan of several windows is alone."""
        alone = self.out if len(self.job.plan.windows) > 1 else None
        window = self.job.plan.windows[0]
        return self.job.settings, window.frames, window.keeps_frames, alone


def generate_all(
    model_folder: Path, lines: Sequence[PromptLine], out: Path, *, batch_size: int, progress: Progress
) -> dict[str, Any]:
    """Write `000.mp4` (or .png for one frame), `001.mp4`... with a sidecar each; the summary counts them.

    A file whose sidecar says the same request, references and model is left as it is, so that a run which
    was stopped goes on. A prompt's result does not depend on the others.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {batch_size}")
    began = time.monotonic()
    writable_folder(out)
    model, facts = ready_model(model_folder, lines[0].config)
    items = [_item(line, model, out, number, len(lines)) for number, line in enumerate(lines)]
    wanted = [item for item in items if not _is_made(item, facts)]
    batches = list(_batches(wanted, batch_size))
    progress.stage("generate", sum(_steps(batch) for batch in batches))
    for batch in batches:
        for item in batch:
            warn_of_unknown_words(model, item.job)
        _make(model, batch, facts, progress)
    return {
        "folder": str(out),
        "prompts": len(items),
        "made": len(wanted),
        "already_there": len(items) - len(wanted),
        "batches": len(batches),
        "files": [item.out.name for item in items],
        "seconds": round(time.monotonic() - began, 2),
    }


def _item(line: PromptLine, model: Model, out: Path, number: int, count: int) -> _Item:
    digits = max(3, len(str(count - 1)))
    frames = line.config.frames or model.sampling.frames
    file = out / f"{number:0{digits}d}{'.png' if frames == 1 and line.config.image is None else '.mp4'}"
    try:
        return _Item(job=prepare(line.config, model, file), out=file)
    except KinemaError as error:
        raise ConfigError(f"{line.where}: {error}") from None


def _is_made(item: _Item, facts: dict[str, Any]) -> bool:
    """Whether the file is there and its sidecar says that it is this one."""
    if not item.out.is_file() or not sidecar_path(item.out).is_file():
        return False
    try:
        record = read_json(sidecar_path(item.out))
    except CheckpointError:
        return False
    same_model = all(record.get("model", {}).get(name) == facts[name] for name in ("sha256", "lora"))
    same_files = record.get("references") == reference_records(item.job)
    return same_model and same_files and record.get("request") == request_record(item.job.config)


def _batches(items: Sequence[_Item], batch_size: int) -> Iterator[list[_Item]]:
    """Items of one shape together, in the order of the prompts."""
    by_shape: dict[tuple[object, ...], list[_Item]] = {}
    for item in items:
        by_shape.setdefault(item.shape, []).append(item)
    for alike in by_shape.values():
        for start in range(0, len(alike), batch_size):
            yield alike[start : start + batch_size]


def _steps(batch: Sequence[_Item]) -> int:
    return batch[0].job.settings.evaluations * len(batch[0].job.plan.windows)


def _make(model: Model, batch: Sequence[_Item], facts: dict[str, Any], progress: Progress) -> None:
    began = time.monotonic()
    with repeatable(), torch.inference_mode():
        for item, made in zip(batch, _sampled(model, batch, progress), strict=True):
            film = Film(item.job.plan, item.job.settings, made)
            write_film(item.out, film, item.job.settings.fps)
            seconds = round((time.monotonic() - began) / len(batch), 2)
            record = sidecar(item.job, film, model, item.out)
            record |= {"model": facts, "batch": len(batch), "seconds": seconds}
            write_json(sidecar_path(item.out), record)


def _sampled(model: Model, batch: Sequence[_Item], progress: Progress) -> Iterator[Iterator[Made]]:
    """The windows of each item."""
    generators = [torch.Generator(model.device).manual_seed(item.job.config.seed) for item in batch]
    first = batch[0].job
    if len(first.plan.windows) > 1:
        yield sample_windows(model, first.plan, first.settings, generators[0], lambda _: progress.advance())
        return
    rows = []
    for item, generator in zip(batch, generators, strict=True):
        plan = item.job.plan
        rows.append(row_of(model, plan.windows[0], item.job.settings, plan.lengths, generator))
    latents = sample_batch(model, rows, first.settings, lambda _: progress.advance())
    for row, own in zip(rows, torch.split(latents, 1), strict=True):
        closeness = first.settings.keep_given
        frames = shown_frames(model, row.window, own, row.given, closeness)
        yield iter([Made(window=row.window, latents=own, frames=frames)])
