"""Random clips out of 720p files beside decord2: clips per second of processor time, and memory over many."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinema.bench.curate import FOOTAGE
from kinema.bench.cuts import processor_seconds
from kinema.bench.figures import Figure, report
from kinema.errors import ConfigError
from kinema.shapes import Size
from kinema.video.bare import decode_alone
from kinema.video.reader import probe, read_frames

PARTS = ("speed", "memory")
SPEED_TARGET, MEMORY_TARGET = 1.5, 1.05
FRAMES, STRIDES, ROUNDS = 16, (1, 3), 3
_SOURCE, _SIZE = Size(height=720, width=1280), Size(height=240, width=426)
_PEER = "decord2"
_STATM = Path("/proc/self/statm")
_PAGE_BYTES = 4096


@dataclass(frozen=True)
class Footage:
    """A file and what is needed to name its frames."""

    path: Path
    fps: float
    frames: int


@dataclass(frozen=True)
class RandomClip:
    """Frames of a file by their numbers."""

    source: Footage
    places: tuple[int, ...]

    @property
    def times_s(self) -> list[float]:
        """The middle of each frame's display, as the loader asks for it."""
        return [(place + 0.5) / self.source.fps for place in self.places]


def run(
    footage: Path | None = None, *, clips: int = 24, memory_clips: int = 2000, only: str | None = None
) -> dict[str, Any]:
    """Both parts, or one of them, on the 720p H.264 files of the footage's videos."""
    files = high_definition(_videos(footage))
    figures, notes = [], []
    if only in (None, "speed"):
        figures += [figure for stride in STRIDES for figure in speed_figures(files, clips, stride)]
    if only in (None, "memory"):
        figures.append(memory_figure(files, memory_clips))
    if find_spec("decord") is None:
        notes.append(f"no {_PEER}: pip install 'kinema[bench]'")
    return report("loader", figures, notes)


def _videos(footage: Path | None) -> Path:
    named = footage or (Path(os.environ[FOOTAGE]) if os.environ.get(FOOTAGE) else None)
    if named is None or not (named / "videos").is_dir():
        raise ConfigError(f"bench loader needs footage: set {FOOTAGE} to its folder (see docs/benchmarks.md)")
    return named / "videos"


def high_definition(folder: Path) -> list[Footage]:
    """The files to read from; `ConfigError` when there are none."""
    infos = [probe(path) for path in sorted(folder.iterdir()) if path.suffix == ".mp4"]
    found = [
        Footage(Path(str(info.path)), info.fps, info.frames)
        for info in infos
        if (info.height, info.width, info.codec) == (_SOURCE.height, _SOURCE.width, "h264")
        and info.frames > FRAMES * max(STRIDES)
    ]
    if not found:
        raise ConfigError(f"{folder}: no 720p H.264 file of more than {FRAMES * max(STRIDES)} frames in it")
    return found


def random_clips(files: Sequence[Footage], count: int, stride: int, seed: int = 0) -> list[RandomClip]:
    """Clips of `FRAMES` frames, one in `stride`, anywhere in any file."""
    generator = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        source = files[int(generator.integers(len(files)))]
        first = int(generator.integers(source.frames - (FRAMES - 1) * stride))
        made.append(RandomClip(source, tuple(range(first, first + FRAMES * stride, stride))))
    return made


def speed_figures(files: Sequence[Footage], count: int, stride: int) -> list[Figure]:
    """Ours beside each peer, one thread; every clip is read by all of them in turn, and counts with the
    median of `ROUNDS` times.
    """
    tasks: dict[str, Callable[[RandomClip], object]] = {"kinema": read_own, "decoding alone": decode_only}
    if find_spec("decord"):
        tasks[_PEER] = lambda clip: read_decord(_decord_reader(clip.source.path), clip)
    for task in tasks.values():
        for source in files:
            task(RandomClip(source, tuple(range(FRAMES))))
    spent: dict[str, list[float]] = {name: [] for name in tasks}
    for clip in random_clips(files, count, stride):
        times = [[processor_seconds(partial(task, clip)) for task in tasks.values()] for _ in range(ROUNDS)]
        for name, seconds in zip(tasks, np.median(times, axis=0), strict=True):
            spent[name].append(float(seconds))
    return [
        Figure(
            name=f"16-frame clips, one frame in {stride}",
            value=1 / statistics.mean(spent["kinema"]),
            unit="clips/processor s",
            peer=peer,
            peer_value=1 / statistics.mean(spent[peer]),
            target=SPEED_TARGET if peer == _PEER else None,
        )
        for peer in spent
        if peer != "kinema"
    ]


def read_own(clip: RandomClip) -> UInt8[np.ndarray, "t h w 3"]:
    """As the loader does."""
    return read_frames(clip.source.path, clip.times_s, size=_SIZE)


def decode_only(clip: RandomClip) -> int:
    """Every frame from the key frame before the clip to its last one, unconverted: what a decoder takes."""
    fps = clip.source.fps
    return decode_alone(clip.source.path, clip.places[0] / fps, clip.places[-1] / fps)


def _decord_reader(path: Path) -> Any:  # noqa: ANN401 (decord has no types)
    """Not to be kept: a thread of its own decodes ahead, at the cost of whoever is measured next."""
    return import_module("decord").VideoReader(
        str(path), width=_SIZE.width, height=_SIZE.height, num_threads=1
    )


def read_decord(reader: Any, clip: RandomClip) -> UInt8[np.ndarray, "t h w 3"]:  # noqa: ANN401
    """The peer's frames of the same numbers."""
    frames: UInt8[np.ndarray, "t h w 3"] = reader.get_batch(list(clip.places)).asnumpy()
    return frames


def memory_figure(files: Sequence[Footage], count: int) -> Figure:
    """Resident bytes over the last tenth of the clips beside those over the second tenth."""
    resident = []
    for clip in random_clips(files, count, stride=1, seed=1):
        read_own(clip)
        resident.append(_resident_bytes())
    tenth = max(1, count // 10)
    return Figure(
        name=f"memory after {count} clips",
        value=statistics.median(resident[-tenth:]) / 2**20,
        unit="MB",
        peer=f"after the first {2 * tenth}",
        peer_value=statistics.median(resident[tenth : 2 * tenth]) / 2**20,
        target=MEMORY_TARGET,
        better="lower",
    )


def _resident_bytes() -> int:
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
