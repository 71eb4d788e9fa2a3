"""How well a model finds the frames between two, beside a linear blend of them: PSNR on a dataset's clips."""

from __future__ import annotations

import math
import time
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.loader import Batch, iterate_batches
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.pictures import Augmentation, blend, both_ends
from kinema.errors import ConfigError
from kinema.model import Model, load_model
from kinema.nn import VideoUNet
from kinema.progress import Progress, Silent


def compare_between(  # noqa: PLR0913 - what is compared, and how finely
    model_folder: Path,
    dataset: Path,
    *,
    batches: int = 8,
    steps: int = 1,
    resolution: str = "64px",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """PSNR in dB of the middle frames, clip by clip, of the model and of the blend of the two given frames.

    One step of the sampler gives the mean of what may lie between, which has the least squared error.
    """
    progress = progress or Silent()
    model = load_model(model_folder)
    if model.task != "interpolation":
        raise ConfigError(f"{model_folder} is a model of {model.task}; name one of interpolation")
    frames = model.sampling.frames
    data = DataConfig(
        buckets=(BucketRule(resolution=resolution, frames=frames),),
        bucketing=Timed(fps=model.sampling.fps),
        batch_size=8,
        workers=1,
    )
    began, made, blended = time.monotonic(), list[float](), list[float]()
    progress.stage("compare", batches)
    with closing(iterate_batches(dataset, data)) as source, torch.inference_mode():
        for number, batch in enumerate(islice(source, batches)):
            middle = batch.video[:, :, 1:-1]
            generator = torch.Generator().manual_seed(number)
            made += psnr(_found(model, batch, steps, generator), middle)
            blended += psnr(blend(batch.video[:, :, [0, -1]], frames).mean[:, :, 1:-1], middle)
            progress.advance()
    gains = [ours - theirs for ours, theirs in zip(made, blended, strict=True)]
    return {
        "clips": len(made),
        "psnr_model": _mean(made),
        "psnr_blend": _mean(blended),
        "gain_db": _mean(gains),
        "better_on": sum(gain > 0 for gain in gains) / len(gains),
        "steps": steps,
        "seconds": round(time.monotonic() - began, 2),
    }


def _found(model: Model, batch: Batch, steps: int, generator: torch.Generator) -> Float[Tensor, "b 3 t h w"]:
    """The frames that the model puts between the first and the last of each clip."""
    assert isinstance(model.network, VideoUNet)
    assert model.image_encoder is not None
    pictures = batch.video[:, :, [0, -1]]
    ends, frames = model.autoencoder.encode(pictures), batch.video.shape[2]
    noise = torch.randn(ends.shape, generator=generator)
    augmentation = Augmentation(sigma=torch.full((len(ends),), 0.02), noise=noise)
    along_flow = model.autoencoder if model.network.config.along_flow else None
    beside = both_ends(model.image_encoder, pictures, ends, frames, augmentation, along_flow=along_flow)
    size = batch.bucket.size
    latents = sample_latents(
        model,
        [""] * len(ends),
        VideoShape(height=size.height, width=size.width, frames=frames, fps=batch.fps[0].item()),
        steps=steps,
        guidance_scale=1.0,
        generator=[generator] * len(ends),
        beside=beside,
    )
    return model.autoencoder.decode(latents)[:, :, 1:-1].clamp(-1, 1)


def psnr(found: Float[Tensor, "b c t h w"], true: Float[Tensor, "b c t h w"]) -> list[float]:
    """Of each row, in dB, for pixels from -1 to 1; at most 100."""
    errors = (found - true).square().mean(dim=(1, 2, 3, 4)).clamp_min(4e-10)
    return [10 * math.log10(4 / error) for error in errors.tolist()]


def _mean(values: list[float]) -> float:
    return round(sum(values) / len(values), 3)
