"""Which frames of a clip make a sample: places on the clip's own frame grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinema.dataset.buckets import Bucketing, ClipShape, Published, Timed, effective_fps
from kinema.dataset.config import DataConfig
from kinema.manifest import Clip


@dataclass(frozen=True)
class Window:
    """Places on the frame grid, ascending, and the rate that the network is told."""

    places: NDArray[np.int64]
    fps: float


def grid_size(clip: Clip) -> int:
    """Frames on the clip's grid: its duration at its average rate."""
    return max(1, round(clip.duration_s * clip.fps)) if clip.frames > 1 and clip.fps > 0 else clip.frames


def grid_times(clip: Clip, places: NDArray[np.int64]) -> list[float]:
    """Seconds in the source, each in the middle of its frame's display so that rounding cannot miss it."""
    if clip.frames == 1:
        return [clip.start_s] * len(places)
    step_s = clip.duration_s / grid_size(clip)
    return [clip.start_s + (place + 0.5) * step_s for place in places.tolist()]


def draw_window(clip: Clip, frames: int, config: DataConfig, generator: np.random.Generator) -> Window:
    """A random window of so many frames; always one draw."""
    position = generator.random()
    if config.windows:
        position = _middle(int(position * config.windows), config.windows)
    return _window_at(clip, frames, config, position)


def windows(clip: Clip, frames: int, config: DataConfig) -> list[Window]:
    """All that `draw_window` can give where `config.windows` says how many."""
    count = 1 if clip.frames == 1 else config.windows
    return [_window_at(clip, frames, config, _middle(number, count)) for number in range(count)]


def _middle(number: int, count: int) -> float:
    return (number + 0.5) / count


def _window_at(clip: Clip, frames: int, config: DataConfig, position: float) -> Window:
    if clip.frames == 1:
        return Window(np.zeros(frames, dtype=np.int64), config.image_fps)
    places = _places(clip, frames, config.bucketing, position)
    fps = config.image_fps if frames == 1 else _told_fps(clip, config.bucketing)
    return Window(np.clip(places, 0, grid_size(clip) - 1), fps)


def _told_fps(clip: Clip, bucketing: Bucketing) -> float:
    match bucketing:
        case Timed():
            return effective_fps(ClipShape.of(clip), bucketing.fps)
        case Published():
            return clip.fps


def _places(clip: Clip, frames: int, bucketing: Bucketing, position: float) -> NDArray[np.int64]:
    length = grid_size(clip)
    match bucketing:
        case Timed():
            stride = length / clip.duration_s / effective_fps(ClipShape.of(clip), bucketing.fps)
            first = position * max(0.0, length - (frames - 1) * stride)
            return np.asarray(np.floor(first + stride * np.arange(frames) + 1e-6), dtype=np.int64)
        case Published():
            span = frames * bucketing.frame_interval
            begin = int(position * max(1, length - span))
            return np.linspace(begin, min(begin + span, length) - 1, frames).astype(np.int64)
