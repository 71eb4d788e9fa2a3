"""Windows of networks that are shown pictures beside the latents: one to move, two to find frames between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from kinema.denoiser.pictures import Augmentation, Beside, both_ends, first_frame
from kinema.diffusion.edm import EDMConfig
from kinema.encoders.protocols import ImageEncoder
from kinema.errors import ConfigError
from kinema.generate.conditioning import lay, pictures_of
from kinema.generate.tasks import Animate, FromText, Interpolate, Task, Window
from kinema.model import Model
from kinema.nn import NetworkConfig, VideoUNet, VideoUNetConfig
from kinema.nn import Task as MadeFor
from kinema.shapes import Size
from kinema.video.transforms import to_video


def check_task(task: Task, made_for: MadeFor, frames: int) -> None:
    """Raise `ConfigError` for what a network was not made for; `frames` is what it makes at a time."""
    match made_for, task:
        case "text-to-video", _:
            return
        case "image-to-video", Animate():
            return
        case "image-to-video", FromText(references=()):
            raise ConfigError(
                "this model moves a picture and takes no text; name one: kinema animate PICTURE, or --image"
            )
        case "image-to-video", _:
            raise ConfigError("this model moves a picture; use kinema animate, or a model of texts")
        case "interpolation", Interpolate(factor=factor):
            if factor != frames - 1:
                raise ConfigError(
                    f"this model makes {frames - 2} frames between two; use --factor {frames - 1}"
                )
        case _:
            raise ConfigError("this model finds frames between frames; use kinema interpolate")


def moved_picture(
    model: Model,
    window: Window,
    size: Size,
    lengths: Mapping[Path, int],
    fps: float,
) -> Float[Tensor, "1 3 h w"]:
    """The picture that a window starts from."""
    cells = lay(window.references, lengths, window.frames)
    first = cells[0]
    assert first is not None
    return to_video(pictures_of([(first.path, first.frame)], size, fps))[None, :, 0].to(model.device)


def beside_picture(
    model: Model,
    picture: Float[Tensor, "1 3 h w"],
    frames: int,
    sigma: float,
    generator: torch.Generator,
) -> Beside:
    """What the network is shown of a picture; the noise on it is the generator's next draw."""
    noise = torch.randn(picture.shape, generator=generator, device=generator.device).to(picture)
    augmentation = Augmentation(sigma=torch.full((1,), sigma, device=picture.device), noise=noise)
    return first_frame(model.autoencoder, _image_encoder(model), picture, frames, augmentation)


def last_picture(model: Model, latents: Float[Tensor, "1 c t h w"]) -> Float[Tensor, "1 3 h w"]:
    """The last frame of latents, as pixels: a longer video goes on from it."""
    return model.autoencoder.decode(latents)[:, :, -1].clamp(-1, 1)


@dataclass(frozen=True)
class Intervals:
    """The frames that a window of interpolation lies between: one more than it has intervals."""

    pictures: Float[Tensor, "3 k h w"]
    latents: Float[Tensor, "c k h w"]

    def __len__(self) -> int:
        return self.pictures.shape[1] - 1

    def beside(self, model: Model, places: Sequence[int], sigma: float, generator: torch.Generator) -> Beside:
        """What the network is shown of some intervals, a row each."""
        assert isinstance(model.network, VideoUNet)
        frames = model.sampling.frames
        pictures = torch.stack([self.pictures[:, at : at + 2] for at in places])
        ends = torch.stack([self.latents[:, at : at + 2] for at in places])
        noise = torch.randn(ends.shape, generator=generator, device=generator.device).to(ends)
        augmentation = Augmentation(sigma=torch.full((len(ends),), sigma, device=ends.device), noise=noise)
        along_flow = model.autoencoder if model.network.config.along_flow else None
        return both_ends(_image_encoder(model), pictures, ends, frames, augmentation, along_flow=along_flow)

    def joined(self, rows: Float[Tensor, "n c t h w"]) -> Float[Tensor, "1 c t2 h w"]:
        """One sequence: each given frame as it is, and after it what was made up to the next."""
        kept = rearrange(self.latents[:, :-1], "c k h w -> k c 1 h w").to(rows)
        whole = rearrange(torch.cat([kept, rows[:, :, 1:-1]], dim=2), "k c t h w -> c (k t) h w")
        return torch.cat([whole, self.latents[:, -1:].to(rows)], dim=1)[None]


def intervals_of(
    model: Model, window: Window, size: Size, lengths: Mapping[Path, int], fps: float
) -> Intervals:
    """Reads and encodes the given frames of a window."""
    cells = lay(window.references, lengths, window.frames)
    wanted = [(cell.path, cell.frame) for cell in cells if cell is not None]
    video = to_video(pictures_of(wanted, size, fps)).to(model.device)
    return Intervals(video, model.autoencoder.encode(video[None])[0])


def noise_on_pictures(model: Model, asked: float | None) -> float:
    """How much noise is put on what the network is shown: as asked, else 0.02, the published one.

    What is made over a blend was learned from frames without noise.
    """
    config = model.network.config
    if isinstance(config, VideoUNetConfig) and config.along_flow:
        if asked:
            raise ConfigError("this model is shown frames as they are; leave out --augmentation")
        return 0.0
    if asked is not None and asked < 0:
        raise ConfigError(f"augmentation must not be negative, got {asked}")
    return 0.02 if asked is None and isinstance(model.process, EDMConfig) else asked or 0.0


def _image_encoder(model: Model) -> ImageEncoder:
    assert model.image_encoder is not None
    return model.image_encoder


def known_elevation(elevation: float | None, network: NetworkConfig) -> float | None:
    """The asked one, if the network was taught what that is."""
    conditions = network.conditions if isinstance(network, VideoUNetConfig) else ()
    if elevation is not None and "elevation" not in {condition.name for condition in conditions}:
        raise ConfigError("this model was not taught elevations; leave out --elevation")
    return elevation
