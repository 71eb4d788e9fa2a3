"""How well a model goes around objects: its views beside the true ones of a dataset of orbits."""

from __future__ import annotations

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from kinema.dataset.store import kept_clips, source_file
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.pictures import Augmentation, first_frame
from kinema.diffusion.guidance import Guidance
from kinema.encoders.clip import Clip, ClipConfig
from kinema.errors import ConfigError, DatasetError
from kinema.evaluate.frechet import mean_estimate
from kinema.evaluate.lpips import Lpips, load_lpips, lpips
from kinema.evaluate.reference_metrics import psnr, ssim
from kinema.evaluate.sampling import cover_crop
from kinema.manifest import Clip as ClipRow
from kinema.model import Model, load_model
from kinema.progress import Progress, Silent
from kinema.shapes import Size
from kinema.video.reader import read_frames
from kinema.video.transforms import to_frames, to_video

Views = UInt8[np.ndarray, "t h w 3"]
_AUGMENTATION = 0.02


@dataclass(frozen=True, kw_only=True)
class OrbitsConfig:
    """`orbits` at most (0: all of the dataset), each from its own seed. `steps` None: the model's own.

    `clip` is a folder or hub name of CLIP weights, `lpips` a file of LPIPS weights.
    """

    orbits: int = 0
    steps: int | None = None
    clip: str = ""
    lpips: Path | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.orbits < 0 or (self.steps is not None and self.steps < 1):
            raise ValueError(f"orbits >= 0 and steps >= 1 are needed, got {self.orbits} and {self.steps}")


def compare_orbits(
    model_folder: Path,
    dataset: Path,
    config: OrbitsConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """PSNR (dB), SSIM, and where weights are given LPIPS and CLIP score (the cosine of a made and a true
    view), each the mean over all views but the given first one, with intervals over orbits.

    Beside each stands what the first picture gives when it is held still, under "still".
    """
    config, progress, began = config or OrbitsConfig(), progress or Silent(), time.monotonic()
    model = load_model(model_folder)
    if model.task != "image-to-video":
        raise ConfigError(f"{model_folder} is a model of {model.task}; name one that moves pictures")
    clips = kept_clips(dataset)[: config.orbits or None]
    _check(model, clips)
    clip = Clip(ClipConfig(source=config.clip)) if config.clip else None
    network = load_lpips(config.lpips) if config.lpips else None
    progress.stage("orbits", len(clips))
    made, still = [], []
    for number, row in enumerate(clips):
        true = true_views(dataset, row, model)
        found = made_views(model, true[0], row.elevation, config, config.seed + number)
        made.append(_metrics(found[1:], true[1:], network, clip))
        still.append(_metrics(np.repeat(true[:1], len(true) - 1, axis=0), true[1:], network, clip))
        progress.advance(1, row.clip_id)
    return {
        "orbits": len(clips),
        "views": model.sampling.frames,
        "metrics": _means(made, config.seed),
        "still": _means(still, config.seed),
        "steps": config.steps or model.sampling.steps,
        "seconds": round(time.monotonic() - began, 2),
    }


def true_views(dataset: Path, clip: ClipRow, model: Model) -> Views:
    """As many views as the model makes, at equal angles from the first, at the model's size."""
    frames, (height, width) = model.sampling.frames, (model.sampling.height, model.sampling.width)
    times = [clip.start_s + round(view * clip.frames / frames) / clip.fps for view in range(frames)]
    return cover_crop(read_frames(source_file(dataset, clip), times), Size(height=height, width=width))


@torch.inference_mode()
def made_views(
    model: Model,
    picture: UInt8[np.ndarray, "h w 3"],
    elevation: float | None,
    config: OrbitsConfig,
    seed: int,
) -> Views:
    """Once around what the picture shows."""
    assert model.image_encoder is not None
    sampling, generator = model.sampling, torch.Generator().manual_seed(seed)
    shown = to_video(picture[None])[None, :, 0]
    noise = torch.randn(shown.shape, generator=generator)
    augmentation = Augmentation(sigma=torch.full((1,), _AUGMENTATION), noise=noise)
    facts = {"azimuth": 2 * torch.pi * torch.arange(sampling.frames)[None] / sampling.frames}
    if elevation is not None:
        facts["elevation"] = torch.full((1,), math.radians(elevation))
    first = 1.0 if sampling.guidance_first is None else sampling.guidance_first
    latents = sample_latents(
        model,
        "",
        VideoShape(height=sampling.height, width=sampling.width, frames=sampling.frames, fps=sampling.fps),
        steps=config.steps or sampling.steps,
        guidance_scale=Guidance(scale=sampling.guidance_scale, first=first, shape="triangle"),
        generator=generator,
        beside=first_frame(model.autoencoder, model.image_encoder, shown, sampling.frames, augmentation),
        facts=facts,
    )
    return to_frames(model.autoencoder.decode(latents)[0])


def _check(model: Model, clips: list[ClipRow]) -> None:
    for clip in clips:
        if clip.elevation is None and clip.azimuth is None:
            raise DatasetError(f"clip {clip.clip_id} is no orbit; make some with: kinema render-orbits")
        if clip.frames < model.sampling.frames:
            raise DatasetError(
                f"clip {clip.clip_id} has {clip.frames} views and the model makes {model.sampling.frames}; "
                "render orbits of as many frames"
            )


def _metrics(made: Views, true: Views, network: Lpips | None, clip: Clip | None) -> dict[str, float]:
    found = {"psnr": psnr(made, true), "ssim": ssim(made, true)}
    if network is not None:
        found["lpips"] = lpips(network, made, true)
    if clip is not None:
        found["clip_score"] = float((clip.images(made) * clip.images(true)).sum(dim=1).mean())
    return found


def _means(rows: list[dict[str, float]], seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    return {name: asdict(mean_estimate(np.array([row[name] for row in rows]), generator)) for name in rows[0]}
