"""How well transitions are found: found transitions against the truth of a spliced set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from kinema.curate.cuts import CutConfig, CutDetector, Transition
from kinema.video.reader import open_source
from kinema.video.small_frames import small_rgb

HARD_TOLERANCE, GRADUAL_TOLERANCE = 2, 6


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A spliced source: `transitions` as in cuts.json (type; frame, or start and end half-open)."""

    path: Path
    frames: int
    transitions: Sequence[Mapping[str, Any]]


@dataclass
class CutScore:
    """Counts over any number of sources. An edge is where a clip would begin or end."""

    found: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    false_edges: int = 0

    def add(self, truth: Truth, edges: Sequence[int]) -> None:
        """Score one source. A transition is found when an edge lies in its tolerance; an edge that lies in
        none is false. Both edges of a gradual transition may match the same truth."""
        spans = [_span(transition) for transition in truth.transitions]
        inside = [edge for edge in sorted(set(edges)) if 0 < edge < truth.frames]
        self.false_edges += sum(not any(low <= edge <= high for low, high in spans) for edge in inside)
        for transition, (low, high) in zip(truth.transitions, spans, strict=True):
            kind = transition["type"]
            self.asked[kind] = self.asked.get(kind, 0) + 1
            self.found[kind] = self.found.get(kind, 0) + any(low <= edge <= high for edge in inside)

    @property
    def recall(self) -> float:
        """Over all kinds."""
        return sum(self.found.values()) / max(sum(self.asked.values()), 1)

    @property
    def precision(self) -> float:
        """Found transitions over found ones and false edges."""
        found = sum(self.found.values())
        return found / max(found + self.false_edges, 1)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def recall_of(self, kind: str) -> float:
        """Of one kind of transition."""
        return self.found.get(kind, 0) / max(self.asked.get(kind, 0), 1)


def read_truths(folder: Path) -> list[Truth]:
    """The spliced sources of a folder that holds cuts.json."""
    described = json.loads((folder / "cuts.json").read_text(encoding="utf-8"))
    return [
        Truth(path=folder / video["file"], frames=video["frames"], transitions=video["transitions"])
        for video in described["videos"]
    ]


def edges_of(found: Sequence[Transition]) -> list[int]:
    """Clip edges that transitions make: one for a hard cut, two for a gradual one."""
    return [edge for cut in found for edge in {cut.start_index, cut.end_index}]


def detect_file(path: Path, config: CutConfig | None = None, *, threads: int = 0) -> list[Transition]:
    """Decode a source and find its transitions, nothing else."""
    detector = CutDetector(config)
    with open_source(path, threads=threads) as reader:
        for picture in reader.pictures():
            detector.push(small_rgb(picture.raw), picture.pts_s)
    return detector.finish()


def scenedetect_edges(path: Path) -> Iterator[tuple[str, list[int]]]:
    """PySceneDetect's detectors with their published settings, one decode each."""
    scenedetect = import_module("scenedetect")
    detectors = {
        "PySceneDetect Content(27)": scenedetect.ContentDetector(27.0, min_scene_len=6),
        "PySceneDetect Adaptive(3.0)": scenedetect.AdaptiveDetector(3.0, min_scene_len=6),
        "PySceneDetect Histogram": scenedetect.HistogramDetector(min_scene_len=6),
    }
    for name, detector in detectors.items():
        manager = scenedetect.SceneManager()
        manager.add_detector(detector)
        manager.detect_scenes(scenedetect.open_video(str(path)))
        yield name, [cut.frame_num for cut in manager.get_cut_list()]


def _span(transition: Mapping[str, Any]) -> tuple[int, int]:
    """First and last frame at which an edge counts as this transition."""
    if transition["type"] == "hard":
        return transition["frame"] - HARD_TOLERANCE, transition["frame"] + HARD_TOLERANCE
    return transition["start"] - GRADUAL_TOLERANCE, transition["end"] - 1 + GRADUAL_TOLERANCE
