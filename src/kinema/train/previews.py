"""Sample videos while a run goes on, which do not disturb it."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from kinema.checkpoint import as_record, write_json
from kinema.dataset.loader import Batch, iterate_batches
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.pictures import Beside
from kinema.diffusion.guidance import Guidance
from kinema.encoders.protocols import training_latents
from kinema.model import Model
from kinema.train.objective import objective_of
from kinema.train.reporting import Reporter
from kinema.train.setup import Run
from kinema.video.transforms import to_frames
from kinema.video.writer import write_video


class OutOfTimeError(Exception):
    """The previews of this step have taken as long as they may."""


@torch.no_grad()
def write_previews(run: Run, reporter: Reporter) -> None:
    """A video and a sidecar for each prompt, from the averaged weights and a generator of their own.

    The ranks take a prompt each at a time; all stop together when the time that is allowed is over.
    """
    world, prompts = run.world, run.prompts
    deadline = time.monotonic() + run.config.preview.budget_s
    made = 0
    try:
        for first in range(0, len(prompts), world.clip_ranks):
            # A rank for which no prompt is left samples along: sharded weights need everyone.
            number = min(first + world.clip_rank, len(prompts) - 1)
            frames = _sample(run, number, deadline)
            made = min(first + world.clip_ranks, len(prompts))
            _write(run, reporter, number, frames)
    except OutOfTimeError:
        reporter.say(
            f"previews of step {run.state.step}: {len(prompts) - made} of {len(prompts)} left out, "
            f"for they take longer than preview.budget_s = {run.config.preview.budget_s:g}"
        )


def _sample(run: Run, number: int, deadline: float) -> UInt8[np.ndarray, "t h w 3"]:
    model, preview = run.averaged_model, run.config.preview

    def watch_time(_: Tensor) -> None:
        if run.world.any(time.monotonic() > deadline):
            raise OutOfTimeError

    row = None if model.task == "text-to-video" else _clip(run, number)
    shape = preview_shape(run) if row is None else _shape_of(row)
    latents = sample_latents(
        model,
        run.prompts[number],
        shape,
        steps=preview.steps,
        guidance_scale=Guidance(
            scale=preview.guidance_scale, first=preview.guidance_first, shape=preview.guidance_shape
        ),
        generator=torch.Generator(model.device).manual_seed(preview.seed + number),
        beside=None if row is None else _beside(run, model, row),
        on_step=watch_time,
    )
    return to_frames(model.autoencoder.decode(latents)[0, :, : shape.frames])


def _clip(run: Run, number: int) -> Batch:
    """A clip of the batch that training began with: its frames are what a network of pictures is shown."""
    with closing(iterate_batches(run.dataset, run.config.data)) as batches:
        batch = next(batches)
    return batch.row(number % len(batch.seeds)).to(run.world.device)


def _shape_of(batch: Batch) -> VideoShape:
    size, fps = batch.bucket.size, batch.fps[0].item()
    return VideoShape(height=size.height, width=size.width, frames=batch.bucket.frames, fps=fps)


def _beside(run: Run, model: Model, row: Batch) -> Beside:
    """What training shows of a clip."""
    pictures = objective_of(model, run.config).pictures
    assert pictures is not None
    clean = training_latents(model.autoencoder, row.video, row.seeds)
    shown = pictures.of(model.network, row, clean)
    assert shown is not None
    return shown[0]


def preview_shape(run: Run) -> VideoShape:
    """What previews are: a shape that the run is trained on."""
    shape = run.model.sampling
    return VideoShape(height=shape.height, width=shape.width, frames=shape.frames, fps=shape.fps)


def _write(run: Run, reporter: Reporter, number: int, frames: UInt8[np.ndarray, "t h w 3"]) -> None:
    shape, preview = preview_shape(run), run.config.preview
    everyone: dict[int, Any] = {}
    for place, video in run.world.gather_clips((number, frames)):
        everyone.setdefault(place, video)
    if reporter.log is None:
        return
    for place, video in everyone.items():
        path = run.folder / "samples" / f"step-{run.state.step:08d}-{place}.mp4"
        write_video(path, video, shape.fps)
        record = {"prompt": run.prompts[place], "step": run.state.step, "seed": preview.seed + place}
        write_json(path.with_name(path.name + ".json"), record | as_record(shape) | as_record(preview))
        reporter.log.video(f"samples/{place}", video, shape.fps, run.state.step)
