"""Figures for filtering again and for the report, on a made manifest of many clips."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from kinema.bench.figures import Figure, report
from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.refilter import refilter
from kinema.curate.report import refresh_report
from kinema.files import write_text
from kinema.manifest import Caption, Clip, write_clips

TARGET_S = 5.0


def run(parts: int = 1000, clips: int = 100) -> dict[str, Any]:
    """Seconds to filter `parts` x `clips` clips by the lowest quarter of motion, and to write the report."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_manifest(folder, parts, clips)
        began = time.perf_counter()
        summary = refilter(folder, FilterConfig(motion_score=Bounds(drop_lowest=0.25)))
        filtered = time.perf_counter()
        refresh_report(folder)
        reported = time.perf_counter()
    name = f"{summary.clips} clips"
    return report(
        "filters",
        [
            Figure(name=f"filter {name}", value=filtered - began, unit="s", **_AT_MOST),
            Figure(name=f"report on {name}", value=reported - filtered, unit="s", **_AT_MOST),
        ],
    )


def write_manifest(folder: Path, parts: int, clips: int) -> None:
    """A dataset folder of rows alone, as curation leaves it: a part a source."""
    write_text(folder / "dataset.toml", 'kinema = "made"\n')
    motion = np.random.default_rng(0).gamma(2.0, 1.0, (parts, clips))
    for part in range(parts):
        source = replace(_CLIP, source_id=f"{part:06d}", source_path=f"/footage/{part:06d}.mp4")
        rows = [
            replace(
                source,
                clip_id=f"{part:06d}{index:06d}",
                start_frame=60 * index,
                end_frame=60 * index + 50,
                start_s=2.4 * index,
                end_s=2.4 * index + 2,
                motion_score=float(motion[part, index]),
            )
            for index in range(clips)
        ]
        write_clips(folder, source.source_id, rows)


_AT_MOST: dict[str, Any] = {"target": TARGET_S, "bounds": "value", "better": "lower"}
_CLIP = Clip(
    clip_id="",
    source_id="",
    source_path="",
    start_frame=0,
    end_frame=50,
    start_s=0.0,
    end_s=2.0,
    cut_kind_start="hard",
    cut_kind_end="hard",
    frames=50,
    fps=25.0,
    width=1280,
    height=720,
    aspect_ratio=0.5625,
    duration_s=2.0,
    technical_quality=0.9,
    captions=(Caption(text="a dog runs over a wet street", kind="image", model="m"),),
)
