"""Frames of pictures and clips, laid on the frames of the output: which are given, and how firmly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinema.denoiser import Given, VideoShape
from kinema.encoders.latent_frames import TimeGrid
from kinema.encoders.protocols import Autoencoder
from kinema.errors import ConfigError
from kinema.shapes import Size
from kinema.video.reader import open_source, probe, read_frames
from kinema.video.transforms import resize_crop, to_video

Frames = UInt8[np.ndarray, "t h w 3"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A span of a picture or clip, and where it goes in the output; all in frames at the output's rate.

    `first` is where the span begins in the file and `at` where it goes; a negative one counts from the end.
    `frames` None: all from `first` on. A picture is held for `frames`. `strength` 0 keeps the frames
    exactly, 1 makes them anew, a value between edits them. `segment` counts the segments of a long video.
    """

    path: Path
    first: int = 0
    at: int = 0
    frames: int | None = None
    strength: float = 0.0
    segment: int = 0

    def __post_init__(self) -> None:
        if self.frames is not None and self.frames < 1:
            raise ConfigError(f"reference {self.path.name}: frames must be at least 1, got {self.frames}")
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"reference {self.path.name}: strength is from 0 to 1, got {self.strength}")
        if self.segment < 0:
            raise ConfigError(f"reference {self.path.name}: segments count from 0, got {self.segment}")


class Cell(NamedTuple):
    """What is given for one frame of the output."""

    path: Path
    frame: int
    strength: float


Cells = tuple[Cell | None, ...]


def frames_in(path: Path, fps: float) -> int:
    """Frames of a file at `fps`; a picture has one. Raises `ConfigError` for a file that is not there."""
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; name a picture or a video")
    source = probe(path)
    if source.is_image:
        return 1
    duration_s = source.duration_s or (source.frames / source.fps if source.fps else 0.0)
    return max(1, int(duration_s * fps + 1e-3))


def is_picture(path: Path) -> bool:
    """Whether a file is one still picture."""
    return frames_in(path, 1.0) == 1 and probe(path).is_image


def lay(references: Iterable[Reference], lengths: Mapping[Path, int], frames: int) -> Cells:
    """Each frame of an output of `frames`: what is given there, or None. Later references overwrite."""
    cells: list[Cell | None] = [None] * frames
    for reference in references:
        length = lengths[reference.path]
        first = _from_start(reference, "first", length, "the reference")
        at = _from_start(reference, "at", frames, "the output")
        count = length - first if reference.frames is None else reference.frames
        held = length == 1
        if not held and first + count > length:
            raise ConfigError(
                f"reference {reference.path.name}: {count} frames from {first} on end past its {length}; "
                "take fewer, or begin earlier"
            )
        if at + count > frames:
            raise ConfigError(
                f"reference {reference.path.name}: {count} frames at {at} end past the output's {frames}; "
                "take fewer, place them earlier, or ask for more frames"
            )
        for index in range(count):
            cells[at + index] = Cell(reference.path, 0 if held else first + index, reference.strength)
    return tuple(cells)


def strengths(cells: Cells) -> list[float]:
    """The mask of the samplers: 0 for a frame that is kept, 1 for one that is made."""
    return [1.0 if cell is None else cell.strength for cell in cells]


def given_latents(cells: Cells, autoencoder: Autoencoder, shape: VideoShape) -> Given | None:
    """Clean latents of the given frames and their mask; None when there are none.

    Where a latent frame stands for several frames, it is given only when all of them are. It depends on the
    frames before it too, so that what is given has to go on from frame 0 without a gap.
    """
    grid = TimeGrid(autoencoder.temporal_factor)
    mask = latent_strengths(cells, grid)
    chosen = [index for index, strength in enumerate(mask) if strength is not None]
    if not chosen:
        return None
    size, pictures = Size(shape.height, shape.width), None
    wanted = [(cell.path, cell.frame) for cell in cells if cell is not None]
    if grid.factor == 1:
        distinct = list(dict.fromkeys(wanted))
        places = [distinct.index(key) for key in wanted]
        video = _video(autoencoder, pictures_of(distinct, size, shape.fps))
        found = autoencoder.encode(video)[:, :, places]
        pictures = video.new_zeros(1, 3, shape.frames, shape.height, shape.width)
        pictures[:, :, chosen] = video[:, :, places]
    else:
        video = _video(autoencoder, pictures_of(wanted, size, shape.fps))
        found = autoencoder.encode(video)[:, :, chosen]
    latents = found.new_zeros(1, *shape.latent_shape(autoencoder))
    latents[:, :, chosen] = found
    return Given(latents=latents, denoise_mask=_mask(mask).to(latents.device), pictures=pictures)


def latent_strengths(cells: Cells, grid: TimeGrid) -> list[float | None]:
    """The strength of each latent frame, None where it is not given; the most of what its frames have."""
    if grid.factor > 1:
        _check_run(cells, grid)
    spans = (grid.span(index, len(cells)) for index in range(grid.count(len(cells))))
    return [_strength(cells[start:stop]) for start, stop in spans]


def frames_at(
    path: Path, indices: Sequence[int], size: Size, fps: float
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Frames of a clip at `fps`, one after the other, so that a long one need not be in memory."""
    with open_source(path) as reader:
        for picture in reader.pictures_at([index / fps for index in indices]):
            yield resize_crop(picture.rgb()[None], size)[0]


def _from_start(reference: Reference, name: str, length: int, whole: str) -> int:
    value: int = getattr(reference, name)
    counted = value + length if value < 0 else value
    if not 0 <= counted < length:
        raise ConfigError(
            f"reference {reference.path.name}: {name} is {value}, but {whole} has {length} frames; "
            f"use {-length} to {length - 1}"
        )
    return counted


def _check_run(cells: Cells, grid: TimeGrid) -> None:
    """Given frames go on from the first one: what comes before them is in their latents."""
    given = [cell is not None for cell in cells]
    if any(later and not earlier for earlier, later in pairwise(given)):
        late = next(index for index in range(1, len(given)) if given[index] and not given[index - 1])
        raise ConfigError(
            f"frame {late} is given but not the one before it, which needs an autoencoder of one frame a "
            f"latent frame; this model's packs {grid.factor}, so begin at frame 0 and leave no gap"
        )


def _strength(cells: Cells) -> float | None:
    values = [cell.strength for cell in cells if cell is not None]
    return max(values) if len(values) == len(cells) else None


def pictures_of(wanted: Sequence[tuple[Path, int]], size: Size, fps: float) -> Frames:
    """Frames of files, by their number at `fps`, in the order wanted."""
    by_path: dict[Path, list[int]] = {}
    for path, frame in dict.fromkeys(wanted):
        by_path.setdefault(path, []).append(frame)
    found = dict[tuple[Path, int], UInt8[np.ndarray, "h w 3"]]()
    for path, indices in by_path.items():
        pictures = resize_crop(read_frames(path, [index / fps for index in indices]), size)
        found |= {(path, index): picture for index, picture in zip(indices, pictures, strict=True)}
    return np.stack([found[key] for key in wanted])


def _video(autoencoder: Autoencoder, frames: Frames) -> Float[Tensor, "1 3 t h w"]:
    """As the autoencoder takes it, where it is."""
    video = to_video(frames)[None]
    if isinstance(autoencoder, nn.Module):
        tensors = [*autoencoder.parameters(), *autoencoder.buffers()]
        video = video.to(tensors[0].device) if tensors else video
    return video


def _mask(chosen: Sequence[float | None]) -> Tensor:
    """Boolean where nothing is edited."""
    values = [1.0 if strength is None else strength for strength in chosen]
    mask = torch.tensor([values])
    return mask.bool() if all(value in (0.0, 1.0) for value in values) else mask
