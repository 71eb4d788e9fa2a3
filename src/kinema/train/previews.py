"""Sample videos while a run goes on, which do not disturb it."""

from __future__ import annotations

import torch

from kinema.checkpoint import as_record, write_json
from kinema.denoiser import VideoShape, sample_latents
from kinema.runlog import RunLog
from kinema.train.setup import Run
from kinema.video.transforms import to_frames
from kinema.video.writer import write_video


@torch.no_grad()
def write_previews(run: Run, log: RunLog) -> None:
    """A video and a sidecar for each prompt, from the averaged weights and a generator of their own."""
    model, preview = run.averaged_model, run.config.preview
    defaults = model.sampling
    shape = VideoShape(height=defaults.height, width=defaults.width, frames=defaults.frames, fps=defaults.fps)
    for number, prompt in enumerate(run.prompts):
        latents = sample_latents(
            model,
            prompt,
            shape,
            steps=preview.steps,
            guidance_scale=preview.guidance_scale,
            generator=torch.Generator(model.device).manual_seed(preview.seed + number),
        )
        frames = to_frames(model.autoencoder.decode(latents)[0, :, : shape.frames])
        path = run.folder / "samples" / f"step-{run.state.step:08d}-{number}.mp4"
        write_video(path, frames, shape.fps)
        record = {"prompt": prompt, "step": run.state.step, "seed": preview.seed + number}
        write_json(path.with_name(path.name + ".json"), record | as_record(shape) | as_record(preview))
        log.video(f"samples/{number}", frames, shape.fps, run.state.step)
