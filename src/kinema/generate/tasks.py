"""What can be asked of a model, as types: each says which frames are given and which are generated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from kinema.denoiser import Given, VideoShape
from kinema.encoders.latent_frames import latent_frames
from kinema.encoders.protocols import Autoencoder
from kinema.errors import ConfigError
from kinema.shapes import Size
from kinema.video.reader import read_frames
from kinema.video.transforms import resize_crop, to_video


@dataclass(frozen=True, kw_only=True)
class TextToVideo:
    """Every frame from the prompt."""

    frames: int

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ConfigError(
                f"frames must be at least 2 for a video, got {self.frames}; or name a .png output"
            )


@dataclass(frozen=True, kw_only=True)
class TextToImage:
    """One frame from the prompt."""


@dataclass(frozen=True, kw_only=True)
class ImageToVideo:
    """The first frame is given, the rest follows it."""

    image: Path
    frames: int

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise ConfigError(f"frames must be at least 2 to move an image, got {self.frames}")


Task = TextToVideo | TextToImage | ImageToVideo


def frames_of(task: Task) -> int:
    """Frames of the finished clip."""
    match task:
        case TextToImage():
            return 1
        case TextToVideo(frames=frames) | ImageToVideo(frames=frames):
            return frames


def given_of(task: Task, autoencoder: Autoencoder, shape: VideoShape) -> Given | None:
    """Clean latents of the given frames; None when everything is generated."""
    match task:
        case ImageToVideo(image=image):
            return _first_frame(image, autoencoder, shape)
        case TextToVideo() | TextToImage():
            return None


def _first_frame(image: Path, autoencoder: Autoencoder, shape: VideoShape) -> Given:
    """The image, cut to the video's shape and encoded; latents of later frames are placeholders."""
    frames = resize_crop(read_frames(image, [0.0]), Size(shape.height, shape.width))
    video = to_video(frames)[None]
    if isinstance(autoencoder, nn.Module):
        video = video.to(next(autoencoder.buffers()).device)
    first = autoencoder.encode(video)
    count = latent_frames(shape.frames, autoencoder.temporal_factor)
    latents = first.new_zeros(*first.shape[:2], count, *first.shape[3:])
    latents[:, :, :1] = first
    denoise_mask = torch.ones(1, count, dtype=torch.bool, device=first.device)
    denoise_mask[:, 0] = False
    return Given(latents=latents, denoise_mask=denoise_mask)
