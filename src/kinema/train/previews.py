"""Sample videos while a run goes on, which do not disturb it."""

from __future__ import annotations

from contextlib import closing

import torch

from kinema.checkpoint import as_record, write_json
from kinema.dataset.loader import Batch, iterate_batches
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.pictures import Beside
from kinema.diffusion.guidance import Guidance
from kinema.encoders.protocols import training_latents
from kinema.model import Model
from kinema.runlog import RunLog
from kinema.train.objective import objective_of
from kinema.train.setup import Run
from kinema.video.transforms import to_frames
from kinema.video.writer import write_video


@torch.no_grad()
def write_previews(run: Run, log: RunLog) -> None:
    """A video and a sidecar for each prompt, from the averaged weights and a generator of their own."""
    model, preview = run.averaged_model, run.config.preview
    batch = None if model.task == "text-to-video" else _first_batch(run)
    shape = _shape(model) if batch is None else _shape_of(batch)
    for number, prompt in enumerate(run.prompts[: None if batch is None else len(batch.clip_ids)]):
        latents = sample_latents(
            model,
            prompt,
            shape,
            steps=preview.steps,
            guidance_scale=Guidance(
                scale=preview.guidance_scale, first=preview.guidance_first, shape=preview.guidance_shape
            ),
            generator=torch.Generator(model.device).manual_seed(preview.seed + number),
            beside=None if batch is None else _beside(run, model, batch.row(number)),
        )
        frames = to_frames(model.autoencoder.decode(latents)[0, :, : shape.frames])
        path = run.folder / "samples" / f"step-{run.state.step:08d}-{number}.mp4"
        write_video(path, frames, shape.fps)
        record = {"prompt": prompt, "step": run.state.step, "seed": preview.seed + number}
        write_json(path.with_name(path.name + ".json"), record | as_record(shape) | as_record(preview))
        log.video(f"samples/{number}", frames, shape.fps, run.state.step)


def _shape(model: Model) -> VideoShape:
    usual = model.sampling
    return VideoShape(height=usual.height, width=usual.width, frames=usual.frames, fps=usual.fps)


def _shape_of(batch: Batch) -> VideoShape:
    size, fps = batch.bucket.size, batch.fps[0].item()
    return VideoShape(height=size.height, width=size.width, frames=batch.bucket.frames, fps=fps)


def _first_batch(run: Run) -> Batch:
    """The batch that training began with: its first frames are what the previews move."""
    with closing(iterate_batches(run.dataset, run.config.data)) as batches:
        return next(batches).to(run.model.device)


def _beside(run: Run, model: Model, row: Batch) -> Beside:
    """What training shows of a clip."""
    pictures = objective_of(model, run.config).pictures
    assert pictures is not None
    clean = training_latents(model.autoencoder, row.video, row.seeds)
    shown = pictures.of(model.network, row, clean)
    assert shown is not None
    return shown[0]
