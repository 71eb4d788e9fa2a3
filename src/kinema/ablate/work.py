"""One model of an ablation, from its clips to its figures; and several at a time, one on each device."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from kinema.checkpoint import read_json, write_json
from kinema.errors import KinemaError
from kinema.evaluate.metrics import EvaluateConfig, evaluate
from kinema.generate.batch import generate_all
from kinema.generate.pipeline import GenerateConfig
from kinema.generate.prompts import PromptLine
from kinema.progress import Progress, Silent
from kinema.train.config import TrainConfig
from kinema.train.loop import train

RESULT = "result.json"
_BATCH = 4


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one process needs to know of an arm. `folder` gets images/, run/, samples/, evaluation/ and, last
    of all, result.json: an arm that has it is finished."""

    name: str
    folder: Path
    view: Path
    train: TrainConfig
    images: TrainConfig | None
    prompts: tuple[str, ...]
    references: Path
    evaluate: EvaluateConfig

    @property
    def is_done(self) -> bool:
        return (self.folder / RESULT).is_file()

    @property
    def samples(self) -> Path:
        return self.folder / "samples"


def run_job(job: Job, progress: Progress | None = None) -> dict[str, Any]:
    """Train, make the videos, measure them; goes on where it was stopped."""
    if job.is_done:
        return read_json(job.folder / RESULT)
    began, progress = time.monotonic(), progress or Silent()
    config, run = job.train, job.folder / "run"
    if job.images is not None:
        train_on(job.images, job.view, job.folder / "images", progress)
        config = replace(config, start_from=job.folder / "images")
    trained = train_on(config, job.view, run, progress)
    generate_all(run, prompt_lines(job.prompts), job.samples, batch_size=_BATCH, progress=progress)
    judged = evaluate(job.samples, job.references, job.folder / "evaluation", job.evaluate, progress)
    result = {
        "arm": job.name,
        "last_loss": trained["last_loss"],
        "metrics": judged["metrics"],
        "protocol": judged["protocol"],
        "skipped": judged["skipped"],
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(job.folder / RESULT, result)
    return result


def train_on(config: TrainConfig, view: Path, run: Path, progress: Progress) -> dict[str, Any]:
    """Train, or go on; a run that was killed before its first record is begun again."""
    begun = (run / "resolved.toml").is_file()
    if run.is_dir() and not begun:
        shutil.rmtree(run)
    return train(config, view, run, begun, progress)


def prompt_lines(prompts: Sequence[str], steps: int | None = None) -> list[PromptLine]:
    """The same prompts with the same seeds for every model."""
    return [
        PromptLine(where=f"prompt {number}", config=GenerateConfig(prompt=prompt, seed=number, steps=steps))
        for number, prompt in enumerate(prompts)
    ]


def devices_of(names: Sequence[str]) -> tuple[str, ...]:
    """The devices that are named, or all GPUs, or the CPU."""
    return tuple(names) or tuple(f"cuda:{n}" for n in range(torch.cuda.device_count())) or ("cpu",)


def run_jobs(
    jobs: Sequence[Job], devices: Sequence[str], progress: Progress
) -> Iterator[tuple[Job, dict[str, Any] | KinemaError]]:
    """Each job with its result or its error, as they end; on one device in this process."""
    if len(devices) == 1:
        _use(devices[0], 1)
        for job in jobs:
            yield job, _outcome(job, progress)
        return
    context = get_context("spawn")
    free = context.Queue()
    for device in devices:
        free.put(device)
    progress.stage("models", len(jobs))
    begin = (free, len(devices), os.getpid())
    with ProcessPoolExecutor(len(devices), context, _take_device, begin) as pool:
        waiting = {pool.submit(_outcome, job, None): job for job in jobs}
        for done in as_completed(waiting):
            progress.advance(1, waiting[done].name)
            yield waiting[done], done.result()


def _outcome(job: Job, progress: Progress | None) -> dict[str, Any] | KinemaError:
    """An arm that cannot be made does not end the others; being asked to stop does."""
    from kinema.errors import Interrupted

    try:
        return run_job(job, progress)
    except Interrupted:
        raise
    except KinemaError as error:
        return KinemaError(str(error))


def _take_device(free: Any, workers: int, parent: int) -> None:  # noqa: ANN401 - a queue of the context
    _use(free.get(), workers)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _use(device: str, workers: int) -> None:
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        if workers > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    elif workers > 1 or device != "cuda:0":
        os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")


def _end_with(parent: int) -> None:
    """A worker whose parent was killed would write into a folder that the next run goes on with."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
