"""Windows to latents to frames: one at a time, each handed the end of the one before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.denoiser import Given, OnStep, Precision, Sampler, VideoShape, sample_latents
from kinema.denoiser.keeping import keep_given
from kinema.denoiser.pictures import Beside, beside_together
from kinema.diffusion.guidance import Guidance
from kinema.diffusion.processes import Schedule
from kinema.generate.conditioning import given_latents, lay
from kinema.generate.pictures import beside_picture, intervals_of, last_picture, moved_picture
from kinema.generate.tasks import Plan, Window
from kinema.model import Model
from kinema.motion import CameraMove
from kinema.shapes import Size
from kinema.video.transforms import to_frames

INTERVALS_AT_ONCE = 8
"""Of interpolation, in one forward pass."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How every window is sampled; with `guidance_given` where frames are given, if that is set.

    `height` and `width` are those of what is made, of which a moving `camera` sees the size `shown`.
    """

    height: int
    width: int
    fps: float
    steps: int
    guidance: Guidance
    guidance_given: Guidance | None = None
    keep_given: float = 0.0
    parts_apart: float = 0.0
    sampler: Sampler | None = None
    schedule: Schedule = "respaced"
    precision: Precision = "fp32"
    motion: float | None = None
    elevation: float | None = None
    augmentation: float = 0.0
    camera: CameraMove | None = None
    shown: Size | None = None

    @property
    def evaluations(self) -> int:
        """Calls of the network for a window."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    def guidance_of(self, window: Window) -> Guidance:
        """How hard its prompt is followed; what moves is decided already where frames are given."""
        if not window.keeps_frames:
            return self.guidance
        return replace(self.guidance_given or self.guidance, motion=0.0)

    def facts(self, rows: int, frames: int) -> dict[str, Tensor]:
        """What every row is told besides its shape. A network that knows azimuths goes once around."""
        around = 2 * torch.pi * torch.arange(frames) / frames
        told = {"azimuth": around.expand(rows, -1)}
        if self.motion is not None:
            told["motion"] = torch.full((rows,), self.motion)
        if self.elevation is not None:
            told["elevation"] = torch.full((rows,), math.radians(self.elevation))
        return told

    def shape(self, frames: int) -> VideoShape:
        """A window in pixels."""
        return VideoShape(height=self.height, width=self.width, frames=frames, fps=self.fps)

    def begun(self, frames: int) -> VideoShape | None:
        """What is shown, where the parts of a prompt are made apart before there is more than that."""
        if self.shown is None or not self.parts_apart:
            return None
        return replace(self.shape(frames), height=self.shown.height, width=self.shown.width)


@dataclass(frozen=True)
class Carried:
    """Latents that later windows need: of the video's first frame, and of the end of the window before.

    Their pixels too, where pixels of given frames are kept.
    """

    head: Float[Tensor, "1 c 1 h w"]
    tail: Float[Tensor, "1 c t h w"]
    head_pictures: Float[Tensor, "1 3 1 h2 w2"] | None = None
    tail_pictures: Float[Tensor, "1 3 t h2 w2"] | None = None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One window of a batch."""

    window: Window
    given: Given | None
    generator: torch.Generator
    beside: Beside | None = None


@dataclass(frozen=True, kw_only=True)
class Made:
    """A window's latents and the frames of it that are shown."""

    window: Window
    latents: Float[Tensor, "1 c t h w"]
    frames: UInt8[np.ndarray, "t h w 3"]


def sample_windows(
    model: Model,
    plan: Plan,
    settings: Settings,
    generator: torch.Generator,
    on_step: OnStep | None = None,
) -> Iterator[Made]:
    """The windows of a plan in order. What is in memory does not grow with their number."""
    carried: Carried | None = None
    for number, window in enumerate(plan.windows):
        given = None
        if model.task == "interpolation":
            latents = sample_between(model, window, plan.lengths, settings, generator, on_step)
        else:
            row = row_of(model, window, settings, plan.lengths, generator, carried)
            latents, given = sample_batch(model, [row], settings, on_step), row.given
        following = plan.windows[number + 1].overlap if number + 1 < len(plan.windows) else 0
        frames, carried = _ended(model, window, latents, given, settings, following, carried)
        yield Made(window=window, latents=latents, frames=frames)


def _ended(  # noqa: PLR0913, PLR0917 - as many things decide it
    model: Model,
    window: Window,
    latents: Float[Tensor, "1 c t h w"],
    given: Given | None,
    settings: Settings,
    following: int,
    before: Carried | None,
) -> tuple[UInt8[np.ndarray, "t h w 3"], Carried]:
    """The frames of a window that are written, and what is carried to the next."""
    head = latents[:, :, :1].clone() if before is None else before.head
    if model.autoencoder.temporal_factor > 1:
        frames, tail = packed_frames(model, window, latents, following)
        return frames, Carried(head, tail)
    tail = latents[:, :, latents.shape[2] - following :].clone()
    if not settings.keep_given:
        return shown_frames(model, window, latents), Carried(head, tail)
    video = keep_given(model.autoencoder.decode(latents), given, settings.keep_given)
    pictures = video[:, :, :1].clone() if before is None else before.head_pictures
    ending = video[:, :, video.shape[2] - following :].clone()
    first, stop = window.shown
    return to_frames(video[0, :, first:stop]), Carried(head, tail, pictures, ending)


def sample_batch(
    model: Model,
    rows: Sequence[Row],
    settings: Settings,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Latents of windows of equal length in one batch, each from its own generator."""
    shape = settings.shape(rows[0].window.frames)
    given = _together(model, [row.given for row in rows], shape)
    if given is not None and not bool(given.denoise_mask.any()):
        return given.latents
    return sample_latents(
        model,
        [row.window.prompt for row in rows],
        shape,
        steps=settings.steps,
        sampler=settings.sampler,
        schedule=settings.schedule,
        precision=settings.precision,
        guidance_scale=settings.guidance_of(rows[0].window),
        generator=[row.generator for row in rows],
        given=given,
        beside=beside_together([row.beside for row in rows]),
        facts=settings.facts(len(rows), shape.frames),
        parts_apart=settings.parts_apart,
        begun=settings.begun(shape.frames),
        on_step=on_step,
    )


def sample_between(  # noqa: PLR0913, PLR0917 - as many things decide it
    model: Model,
    window: Window,
    lengths: Mapping[Path, int],
    settings: Settings,
    generator: torch.Generator,
    on_step: OnStep | None = None,
) -> Float[Tensor, "1 c t h w"]:
    """The frames between those of a window, a few intervals at a time."""
    size = Size(settings.height, settings.width)
    intervals = intervals_of(model, window, size, lengths, settings.fps)
    rows = []
    for start in range(0, len(intervals), INTERVALS_AT_ONCE):
        places = range(start, min(start + INTERVALS_AT_ONCE, len(intervals)))
        beside = intervals.beside(model, places, settings.augmentation, generator)
        made = sample_latents(
            model,
            [window.prompt] * len(places),
            settings.shape(model.sampling.frames),
            steps=settings.steps,
            sampler=settings.sampler,
            schedule=settings.schedule,
            precision=settings.precision,
            guidance_scale=settings.guidance,
            generator=[generator] * len(places),
            beside=beside,
            facts=settings.facts(len(places), model.sampling.frames),
            on_step=on_step,
        )
        rows.append(made)
    return intervals.joined(torch.cat(rows))


def row_of(  # noqa: PLR0913, PLR0917 - as many things decide it
    model: Model,
    window: Window,
    settings: Settings,
    lengths: Mapping[Path, int],
    generator: torch.Generator,
    carried: Carried | None = None,
) -> Row:
    """A window with what it is given, in place of its latents or beside them."""
    if model.task != "image-to-video":
        given = given_of(model, window, settings, lengths, carried)
        return Row(window=window, given=given, generator=generator)
    if carried is None:
        size = Size(settings.height, settings.width)
        picture = moved_picture(model, window, size, lengths, settings.fps)
    else:
        picture = last_picture(model, carried.tail)
    beside = beside_picture(model, picture, window.frames, settings.augmentation, generator)
    return Row(window=window, given=None, generator=generator, beside=beside)


def given_of(
    model: Model,
    window: Window,
    settings: Settings,
    lengths: Mapping[Path, int],
    carried: Carried | None = None,
) -> Given | None:
    """What a window is given: its references, and over them the latents of earlier windows, as they are."""
    shape = settings.shape(window.frames)
    cells = lay(window.references, lengths, window.frames)
    given = given_latents(cells, model.autoencoder, shape)
    if carried is None or not window.overlap + window.closing:
        return given
    given = given or _nothing(model, shape)
    latents, mask = given.latents.to(model.device, copy=True), given.denoise_mask.to(model.device, copy=True)
    pictures = None if given.pictures is None else given.pictures.to(model.device, copy=True)
    if window.overlap:
        taken_over = carried.tail.shape[2]
        latents[:, :, :taken_over] = carried.tail
        mask[:, :taken_over] = 0
        if pictures is not None and carried.tail_pictures is not None:
            pictures[:, :, :taken_over] = carried.tail_pictures
    if window.closing:
        latents[:, :, -window.closing :] = carried.head
        mask[:, -window.closing :] = 0
        if pictures is not None and carried.head_pictures is not None:
            pictures[:, :, -window.closing :] = carried.head_pictures
    return Given(latents=latents, denoise_mask=mask, pictures=pictures)


def shown_frames(
    model: Model,
    window: Window,
    latents: Float[Tensor, "1 c t h w"],
    given: Given | None = None,
    closeness: float = 0.0,
) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames of a window that are written. Autoencoders of single frames decode no others, unless pixels
    of given frames are kept (`closeness`)."""
    if model.autoencoder.temporal_factor > 1:
        return packed_frames(model, window, latents, 0)[0]
    first, stop = window.shown
    if closeness and given is not None:
        return to_frames(keep_given(model.autoencoder.decode(latents), given, closeness)[0, :, first:stop])
    if first == stop:
        frames: UInt8[np.ndarray, "t h w 3"] = np.empty((0, 0, 0, 3), np.uint8)
        return frames
    return to_frames(model.autoencoder.decode(latents[:, :, first:stop])[0])


def packed_frames(
    model: Model, window: Window, latents: Float[Tensor, "1 c t h w"], following: int
) -> tuple[UInt8[np.ndarray, "t h w 3"], Float[Tensor, "1 c t2 h w"]]:
    """The frames of a window that are written, and latents of its last `following` frames for the next.

    Where a latent frame stands for several frames it depends on those before it, and the first of a clip
    holds one: the last latent frames would mean something else at a start. So those frames are encoded again.
    """
    first, stop = window.shown
    video = model.autoencoder.decode(latents)[:, :, : window.frames].clamp(-1, 1)
    tail = latents[:, :, :0]
    if following:
        tail = model.autoencoder.encode(video[:, :, window.frames - following :])
    return to_frames(video[0, :, first:stop]), tail


def _nothing(model: Model, shape: VideoShape) -> Given:
    latents = torch.zeros(1, *shape.latent_shape(model.autoencoder), device=model.device)
    mask = torch.ones(1, latents.shape[2], dtype=torch.bool, device=model.device)
    pictures = None
    if model.autoencoder.temporal_factor == 1:
        pictures = torch.zeros(1, 3, shape.frames, shape.height, shape.width, device=model.device)
    return Given(latents=latents, denoise_mask=mask, pictures=pictures)


def _together(model: Model, givens: Sequence[Given | None], shape: VideoShape) -> Given | None:
    """One batch; rows without references are made whole."""
    if all(given is None for given in givens):
        return None
    rows = [given or _nothing(model, shape) for given in givens]
    masks = [row.denoise_mask.to(model.device) for row in rows]
    if any(mask.is_floating_point() for mask in masks):
        masks = [mask.float() for mask in masks]
    return Given(
        latents=torch.cat([row.latents.to(model.device) for row in rows]), denoise_mask=torch.cat(masks)
    )
