"""The whole curation pass: speed beside ffmpeg and PySceneDetect, memory of two workers, decodes a source."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from statistics import median
from subprocess import DEVNULL
from subprocess import run as run_program

import numpy as np
from jaxtyping import UInt8

from kinema.bench.cuts import count_frames, cut_speed_figure, ffmpeg_null, processor_seconds
from kinema.bench.figures import Figure, interleaved
from kinema.bench.peak import peak_bytes
from kinema.curate.analysis import AnalysisConfig, analyse
from kinema.curate.overlay_text import TextConfig
from kinema.curate.pipeline import CurateConfig, curate
from kinema.curate.report import write_report
from kinema.video.writer import write_video

PASS_TARGET, PASS_WITH_TEXT_TARGET, MEMORY_TARGET_GB = 0.7, 0.4, 1.5
_HIGH_DEFINITION = "bbb_waking_720p.mp4"
_MEMORY_FRAMES = 24


def pass_figures(videos: Path, work: Path, loops: int, rounds: int, *, peers: bool = True) -> list[Figure]:
    """Speeds on one 720p file and one thread; nothing without the ffmpeg program."""
    if which("ffmpeg") is None:
        return []
    source = _looped(videos / _HIGH_DEFINITION, work / "long.mp4", loops)
    tasks = _tasks(source, work, peers=peers)
    frames, (seconds, used) = count_frames(source), _both_clocks(tasks, rounds)
    peer = "ffmpeg -f null"
    found = [cut_speed_figure(source, rounds=rounds)]
    for name in [name for name in tasks if name != peer]:
        target = {"pass": PASS_TARGET, "pass with text": PASS_WITH_TEXT_TARGET}.get(name)
        for unit, spent in (("frames/s", seconds), ("frames/processor s", used)):
            value, beside = frames / spent[name], frames / spent[peer]
            found.append(
                Figure(
                    name=f"{name} speed", value=value, unit=unit, peer=peer, peer_value=beside, target=target
                )
            )
    return [figure for figure in found if figure is not None]


def _both_clocks(
    tasks: Mapping[str, Callable[[], object]], rounds: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Of each task the median seconds of the clock and of the processor, from the same rounds."""
    used: dict[str, list[float]] = {name: [] for name in tasks}

    def counted(name: str) -> None:
        used[name].append(processor_seconds(tasks[name]))

    seconds = interleaved({name: partial(counted, name) for name in tasks}, rounds)
    return seconds, {name: median(values[1:]) for name, values in used.items()}  # the first warms up


def _tasks(source: Path, work: Path, *, peers: bool) -> dict[str, Callable[[], object]]:
    dataset = work / "dataset"
    curate([source], dataset, CurateConfig(workers=0, text=TextConfig(detect="off")))

    def whole(text: TextConfig) -> None:
        analyse(source, AnalysisConfig(text=text), threads=1)
        write_report(dataset, dataset / "report.html")

    tasks: dict[str, Callable[[], object]] = {"pass": partial(whole, TextConfig(detect="off"))}
    if TextConfig().active:
        tasks["pass with text"] = partial(whole, TextConfig(detect="on"))
    if peers and find_spec("scenedetect"):
        tasks["PySceneDetect detect-adaptive"] = partial(_adaptive, source)
    plain = ffmpeg_null(source, threads=1)
    return tasks | ({"ffmpeg -f null": plain} if plain else {})


def _adaptive(source: Path) -> None:
    scenedetect = import_module("scenedetect")
    scenedetect.detect(str(source), scenedetect.AdaptiveDetector())


def _looped(source: Path, target: Path, loops: int) -> Path:
    """The source so many times after one another, its packets copied."""
    command = ["ffmpeg", "-v", "error", "-y", "-stream_loop", str(loops - 1), "-i", str(source)]
    run_program([*command, "-map", "0:v:0", "-c", "copy", str(target)], check=True, stdin=DEVNULL)
    return target


def memory_figure(work: Path, size: tuple[int, int]) -> Figure:
    """Sum of the largest resident sizes of two workers that each curate a source of the given size."""
    sources = [work / f"large{number}.mp4" for number in range(2)]
    for number, path in enumerate(sources):
        write_video(path, np.stack(list(_drifting(size, number))), fps=24.0)
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        peaks = list(pool.map(peak_bytes, sources))
    return Figure(
        name="peak memory of two workers",
        value=sum(peaks) / 1e9,
        unit=f"GB at {size[1]} x {size[0]}",
        target=MEMORY_TARGET_GB,
        bounds="value",
        better="lower",
    )


def _drifting(size: tuple[int, int], seed: int) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    """A coarse pattern that slides, enlarged without smoothing."""
    pattern = np.random.default_rng(seed).integers(
        0, 256, (size[0] // 40 + 1, size[1] // 40 + 1, 3), np.uint8
    )
    large = pattern.repeat(40, axis=0).repeat(40, axis=1)[: size[0], : size[1]]
    for index in range(_MEMORY_FRAMES):
        yield np.roll(large, 8 * index, axis=1)


def decode_figure(videos: Path, count: int) -> Figure:
    """How often a source is opened for decoding in the default pass."""
    chosen = sorted(path for path in videos.iterdir() if path.suffix == ".mp4")[:count]
    decodes = [
        analyse(path, AnalysisConfig(text=TextConfig(detect="off")), threads=1).decodes for path in chosen
    ]
    return Figure(
        name="decodes a source",
        value=max(decodes, default=0),
        unit="",
        target=1.0,
        bounds="value",
        better="lower",
    )
