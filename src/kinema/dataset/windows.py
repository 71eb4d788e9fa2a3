"""Which frames of a clip make a sample: places on the clip's own frame grid."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kinema.dataset.buckets import Bucketing, ClipShape, Published, Timed, effective_fps
from kinema.dataset.config import DataConfig, Way
from kinema.manifest import Clip


@dataclass(frozen=True)
class Window:
    """Places on the frame grid, in the order of the frames, and the rate that the network is told."""

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
    """A random window of so many frames: one draw, and another where there are several ways to play it."""
    position, ways = generator.random(), config.ways
    if config.windows:
        position = _middle(int(position * config.windows), config.windows)
    way = ways[int(generator.integers(len(ways)))] if len(ways) > 1 else ways[0]
    return _window_at(clip, frames, config, position, way)


def windows(clip: Clip, frames: int, config: DataConfig) -> list[Window]:
    """All that `draw_window` can give where `config.windows` says how many."""
    if clip.frames == 1:
        return [_window_at(clip, frames, config, _middle(0, 1), config.ways[0])]
    places = [_middle(number, config.windows) for number in range(config.windows)]
    return [_window_at(clip, frames, config, place, way) for place in places for way in config.ways]


def _middle(number: int, count: int) -> float:
    return (number + 0.5) / count


def _window_at(clip: Clip, frames: int, config: DataConfig, position: float, way: Way) -> Window:
    if clip.frames == 1:
        return Window(np.zeros(frames, dtype=np.int64), config.image_fps)
    bucketing = config.bucketing
    if isinstance(bucketing, Timed):
        bucketing = replace(bucketing, fps=way.speed * bucketing.fps)
    places = np.clip(_places(clip, frames, bucketing, position), 0, grid_size(clip) - 1)
    fps = config.image_fps if frames == 1 else _told_fps(clip, bucketing)
    return Window(places[::-1] if way.backwards else places, fps)


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
