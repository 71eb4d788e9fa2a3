"""Figures for cut detection: quality beside PySceneDetect, speed beside ffmpeg, in one run."""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

from kinema.bench.cut_scores import CutScore, detect_file, edges_of, read_truths, scenedetect_edges
from kinema.bench.figures import Figure, interleaved
from kinema.video.reader import open_source

F1_TARGET, HARD_RECALL_TARGET, SPEED_TARGET = 0.93, 0.98, 0.9


def cut_quality_figures(spliced: Path, *, peers: bool = True) -> list[Figure]:
    """F1 over all transitions of a spliced set, and recall of hard cuts; peers when they are installed."""
    truths = read_truths(spliced)
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
    return figures


def cut_speed_figure(path: Path, *, threads: int = 1, rounds: int = 5) -> Figure | None:
    """Frames a second of decoding and cut detection beside `ffmpeg -f null`; None without ffmpeg."""
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        return None
    options = ["-v", "error", "-threads", str(threads)]
    command = [ffmpeg, *options, "-i", str(path), "-map", "0:v:0", "-f", "null", "-"]
    seconds = interleaved(
        {
            "own": lambda: detect_file(path, threads=threads),
            "ffmpeg": lambda: subprocess.run(command, check=True, stdin=subprocess.DEVNULL),
        },
        rounds,
    )
    frames = _frames(path)
    return Figure(
        name="cut detection speed",
        value=frames / seconds["own"],
        unit="frames/s",
        peer="ffmpeg -f null",
        peer_value=frames / seconds["ffmpeg"],
        target=SPEED_TARGET,
    )


def _frames(path: Path) -> int:
    with open_source(path) as reader:
        return sum(1 for _ in reader.pictures())
