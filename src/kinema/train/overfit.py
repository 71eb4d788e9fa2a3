"""Proof that a recipe can learn: one clip by heart, and the clip made again beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.checkpoint import write_json
from kinema.dataset.buckets import Timed
from kinema.dataset.loader import Batch, iterate_batches
from kinema.dataset.store import kept_clips
from kinema.denoiser import VideoShape, sample_latents
from kinema.diffusion.masking import MaskConfig
from kinema.encoders.protocols import training_latents
from kinema.errors import ConfigError, DatasetError, OutputError
from kinema.files import write_text
from kinema.location import is_url
from kinema.manifest import Clip, write_clips
from kinema.model import Model, load_model
from kinema.progress import Progress, Silent
from kinema.train.config import TrainConfig
from kinema.train.guard import SpikeConfig
from kinema.train.loop import train
from kinema.train.objective import draw
from kinema.train.parity import train_sample_parity
from kinema.train.stages import stages, whole_chain
from kinema.video.likeness import psnr
from kinema.video.transforms import to_frames
from kinema.video.writer import write_image, write_video

_MARGIN_DB = 6.0
_SHOWN = 8


@dataclass(frozen=True)
class _Compared:
    """The clip as the network saw it, as the autoencoder gives it back, and as the model made it."""

    original: UInt8[np.ndarray, "t h w 3"]
    encoded: UInt8[np.ndarray, "t h w 3"]
    copy: UInt8[np.ndarray, "t h w 3"]


def overfit_one(
    config: TrainConfig, dataset: Path, out: Path, progress: Progress | None = None, clip_id: str = ""
) -> dict[str, Any]:
    """Train on one clip of the dataset alone, make it again from its caption, and compare.

    Nothing is given, dropped or flipped, and the clip always has its middle window, so that there is one
    thing to learn. `learned` says whether the copy is at least 6 dB nearer to the clip than its mean colour
    is (a quarter of the error), or nearly as near as the autoencoder can come. `parity` is how far the
    training path and the sampling path are apart, see `train_sample_parity`.
    """
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; name another folder for the one clip's run")
    if config.lora is not None or config.task != "text-to-video":
        raise ConfigError("overfit-one trains a whole model of text to video; leave lora and task out")
    clip = _chosen(kept_clips(dataset), clip_id)
    alone = _alone(dataset, clip, out / "clip")
    settings = single_minded(config)
    summary = train(settings, alone, out / "run", progress=progress or Silent())
    model = load_model(out / "run")
    batch = _longest(alone, settings, model)
    compared = _compare(model, batch)
    scores = _scores(compared)
    shown = out / "comparison.png"
    write_image(shown, _strip(compared))
    for name, frames in (("original", compared.original), ("copy", compared.copy)):
        write_video(out / f"{name}.mp4", frames, model.sampling.fps)
    reached = scores["psnr"] - scores["psnr_of_mean_colour"]
    possible = scores["psnr_of_autoencoder"] - scores["psnr_of_mean_colour"]
    result = {
        "out": str(out),
        "clip": clip.clip_id,
        "caption": batch.captions[0],
        "steps": summary["steps"],
        "first_loss": summary["first_loss"],
        "last_loss": summary["last_loss"],
        **scores,
        "parity": parity_of(model, settings, batch),
        "learned": reached >= min(_MARGIN_DB, 0.9 * possible),
        "comparison": str(shown),
        "seconds": summary["seconds"],
    }
    write_json(out / "overfit.json", result)
    return result


def single_minded(config: TrainConfig) -> TrainConfig:
    """The same network, process and rates, with everything off that makes one clip many."""
    chain = whole_chain(config)
    last = stages(chain)[-1].config
    data = replace(last.data, flip=False, windows=1)
    if isinstance(data.bucketing, Timed):
        data = replace(data, bucketing=replace(data.bucketing, video_as_image=0.0))
    return replace(
        chain,
        stage=(),
        data=data,
        masks=MaskConfig(),
        network=replace(config.network, caption_drop=0.0),
        preview=replace(config.preview, every=0),
        spikes=SpikeConfig(factor=0),
    )


def parity_of(model: Model, config: TrainConfig, batch: Batch) -> float:
    """The difference of both paths on a batch, over all of its noise levels."""
    clean = _latents(model, batch)
    draws = draw(batch.seeds, tuple(clean.shape[1:]), config)
    return train_sample_parity(model, batch, clean, draws, fps=model.sampling.fps).difference


def _latents(model: Model, batch: Batch) -> Float[Tensor, "b c t h w"]:
    with torch.no_grad():
        return training_latents(model.autoencoder, batch.video, batch.seeds)


def _chosen(clips: list[Clip], clip_id: str) -> Clip:
    """The clip of this id, else the first that has a caption."""
    named = [clip for clip in clips if clip.clip_id == clip_id] if clip_id else clips
    if not named:
        raise DatasetError(f"no kept clip has the id {clip_id}; the first is {clips[0].clip_id}")
    return next((clip for clip in named if clip.captions), named[0])


def _alone(dataset: Path, clip: Clip, folder: Path) -> Path:
    """A dataset of one clip, read from where it is, with its first caption."""
    where = clip.shard or clip.source_path
    found = where if is_url(where) else str((dataset / where).resolve())
    place = {"shard": found} if clip.shard else {"source_path": found}
    write_text(folder / "dataset.toml", "")
    write_clips(folder, "0", [replace(clip, captions=clip.captions[:1], **place)])  # type: ignore[arg-type]
    return folder


def _longest(dataset: Path, config: TrainConfig, model: Model) -> Batch:
    """A batch of what the finished model makes by itself: its longest bucket."""
    batches = iterate_batches(dataset, config.data)
    try:
        seen = list(islice(batches, 8))
    finally:
        batches.close()
    return max(seen, key=lambda batch: (batch.bucket.frames == model.sampling.frames, batch.bucket.frames))


@torch.no_grad()
def _compare(model: Model, batch: Batch) -> _Compared:
    size, frames = batch.bucket.size, batch.bucket.frames
    shape = VideoShape(height=size.height, width=size.width, frames=frames, fps=model.sampling.fps)
    generator = torch.Generator().manual_seed(0)
    latents = sample_latents(
        model,
        batch.captions[0],
        shape,
        steps=model.sampling.steps,
        guidance_scale=1.0,
        generator=generator,
    )
    kept = model.autoencoder.decode(_latents(model, batch)[:1])
    height, width = kept.shape[-2:]
    return _Compared(
        original=to_frames(batch.video[0, :, :frames, :height, :width]),
        encoded=to_frames(kept[0, :, :frames]),
        copy=to_frames(model.autoencoder.decode(latents)[0, :, :frames]),
    )


def _scores(compared: _Compared) -> dict[str, float]:
    original = compared.original
    colour = np.broadcast_to(original.mean(axis=(0, 1, 2)).round().astype(np.uint8), original.shape)
    return {
        "psnr": round(psnr(compared.copy, original), 2),
        "psnr_of_autoencoder": round(psnr(compared.encoded, original), 2),
        "psnr_of_mean_colour": round(psnr(np.ascontiguousarray(colour), original), 2),
    }


def _strip(compared: _Compared) -> UInt8[np.ndarray, "h w 3"]:
    """Frames of the original above, of the copy below."""
    places = (
        np.linspace(0, len(compared.original) - 1, min(_SHOWN, len(compared.original))).round().astype(int)
    )
    rows = [np.concatenate(list(frames[places]), axis=1) for frames in (compared.original, compared.copy)]
    return np.concatenate(rows, axis=0)
