"""What the worker processes do: cut a clip or a still out of footage, small enough for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.errors import KinemaError
from kinema.files import atomic_path
from kinema.location import Located
from kinema.shapes import Size
from kinema.video.clips import Grid, encode_span
from kinema.video.reader import open_source, probe
from kinema.video.writer import Encoding, image_bytes, write_video

_FPS = 30.0


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Seconds [start, end) of a source, the shorter side at most `side`, to `target`: .mp4, or .jpg for the
    frame in the middle. `end_s` None is the end of the source. Nobody prefers a `spoiled` copy."""

    source: Located
    target: Path
    start_s: float = 0.0
    end_s: float | None = None
    side: int = 360
    crf: int = 23
    spoiled: bool = False


def cut(task: Cut) -> str:
    """Write the target; the reason when that cannot be done."""
    try:
        if task.target.suffix == ".jpg":
            _still(task)
        else:
            _video(task)
    except (KinemaError, OSError, ValueError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _video(task: Cut) -> None:
    info = probe(task.source)
    end_s = info.duration_s if task.end_s is None else task.end_s
    fps = min(info.fps or _FPS, _FPS)
    count = max(1, round((end_s - task.start_s) * fps))
    # In the middle of each frame's display, so that rounding cannot fetch the one before.
    times = task.start_s + (np.arange(count) + 0.5) / fps
    grid = Grid(times_s=times.tolist(), fps=fps, size=small_size(info.height, info.width, task.side))
    encoding = Encoding(crf=task.crf, preset="veryfast", gop=12, threads=1)
    if not task.spoiled:
        encode_span(task.source, grid, task.target, encoding)
        return
    with open_source(task.source, threads=1) as reader:
        pictures = (picture.rgb(grid.size) for picture in reader.pictures_at(grid.times_s))
        write_video(task.target, _spoiled(pictures), fps, encoding)


def _spoiled(frames: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """Coarse blocks under snow: the same scene, and plainly the worse video."""
    generator = np.random.default_rng(0)
    for frame in frames:
        height, width = frame.shape[:2]
        blocks = cv2.resize(frame, (12, 8), interpolation=cv2.INTER_AREA)
        coarse = cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)
        snow = generator.integers(0, 256, (height, width, 1))
        yield ((coarse.astype(np.int64) + snow) // 2).astype(np.uint8)


def _still(task: Cut) -> None:
    end_s = task.start_s if task.end_s is None else task.end_s
    with open_source(task.source, threads=1) as reader:
        picture = next(reader.pictures_at([(task.start_s + end_s) / 2]))
        pixels = picture.rgb(small_size(reader.info.height, reader.info.width, task.side))
    with atomic_path(task.target) as temporary:
        temporary.write_bytes(image_bytes(pixels, ".jpg"))


def small_size(height: int, width: int, side: int) -> Size:
    """In proportion, the shorter side at most `side`, in even numbers."""
    scale = min(1.0, side / min(height, width))
    return Size(max(2, round(height * scale / 2) * 2), max(2, round(width * scale / 2) * 2))
