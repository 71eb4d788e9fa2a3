"""Raw footage to a dataset folder: every source decoded once, every clip a row, every run resumable."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from kinema.curate.analysis import Analysis, AnalysisConfig, KeepConfig, analyse, file_sha256, source_id
from kinema.curate.camera import CameraConfig
from kinema.curate.captions import CaptionConfig, CaptionSource
from kinema.curate.cuts import CutConfig
from kinema.curate.discover import discover
from kinema.curate.duplicates import DuplicateConfig
from kinema.curate.engines import LocalEngine, WorkerDied
from kinema.curate.filters import FilterConfig
from kinema.curate.ledger import Ledger
from kinema.curate.motion import MotionConfig
from kinema.curate.overlay_text import TextConfig
from kinema.curate.quality import QualityConfig
from kinema.curate.report import refresh_report
from kinema.curate.spans import SpanConfig
from kinema.manifest import Clip, Source
from kinema.progress import Progress, Silent
from kinema.video.container import Limits


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """`workers`: processes; None takes the processors, at most four; 0 works in this process."""

    workers: int | None = None
    cuts: CutConfig = field(default_factory=CutConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    text: TextConfig = field(default_factory=TextConfig)
    limits: Limits = field(default_factory=Limits)
    keep: KeepConfig = field(default_factory=KeepConfig)
    captions: CaptionConfig = field(default_factory=CaptionConfig)
    filters: FilterConfig = field(default_factory=FilterConfig)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")

    @property
    def analysis(self) -> AnalysisConfig:
        """The part that needs the pixels."""
        return AnalysisConfig(
            cuts=self.cuts,
            spans=self.spans,
            motion=self.motion,
            camera=self.camera,
            quality=self.quality,
            duplicates=self.duplicates,
            text=self.text,
            limits=self.limits,
            keep=self.keep,
        )


@dataclass(frozen=True, kw_only=True)
class CurateSummary:
    """Counts over the whole dataset folder; `decoded` is how many sources this run decoded."""

    out: Path
    sources: int
    clips: int
    kept: int
    dropped: dict[str, int]
    failed: dict[str, str]
    duplicates: dict[str, str]
    decoded: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"out": str(self.out), "seconds": round(self.seconds, 3)}


def curate(
    inputs: Sequence[Path | str], out: Path, config: CurateConfig, progress: Progress | None = None
) -> CurateSummary:
    """Curate footage into the dataset folder `out`; the same call again goes on where it stopped.

    Sources are only read. Raises `DatasetError` for inputs that are missing or hold no footage.
    """
    started, progress = time.monotonic(), progress or Silent()
    paths = discover(inputs, out)
    captions = CaptionSource(config.captions)
    captions.check(paths)
    ledger = Ledger(out, config.analysis, config.filters, captions)
    ledger.refresh()
    duplicates = _duplicates(paths, ledger)
    todo = [path for path in paths if path not in duplicates and not ledger.is_finished(path)]
    progress.stage("curate", total=len(paths))
    progress.advance(len(paths) - len(todo) - len(duplicates))
    decoded = 0
    for path, analysis in _analyses(todo, duplicates, config):
        ledger.record(path, analysis)
        decoded += analysis.decodes
        progress.advance(1, note=path.name)
    ledger.mark_duplicates(config.duplicates)
    sources, clips = ledger.close({key: value for key, value in asdict(config).items() if key != "workers"})
    refresh_report(out)
    return _summary(out, sources, clips, decoded, time.monotonic() - started)


def _analyses(
    todo: list[Path], duplicates: dict[Path, tuple[Path, str]], config: CurateConfig
) -> Iterator[tuple[Path, Analysis]]:
    workers = min(os.cpu_count() or 1, 4) if config.workers is None else config.workers
    workers = min(workers, len(todo))
    function = partial(analyse, config=config.analysis, threads=1 if workers > 1 else 0)
    for path, result in LocalEngine(function, workers).run(todo):
        yield path, _died(path) if isinstance(result, WorkerDied) else result
    for path, (original, sha256) in duplicates.items():
        yield path, _duplicate(path, original, sha256)


def _died(path: Path) -> Analysis:
    reason = "the worker process was killed twice while it decoded this source (out of memory?)"
    return Analysis(Source(source_id=source_id(path), path=str(path), status="died", reason=reason), [], {})


def _duplicate(path: Path, original: Path, sha256: str) -> Analysis:
    reason = f"same content as {original}"
    row = Source(source_id=source_id(path), path=str(path), sha256=sha256, status="duplicate", reason=reason)
    return Analysis(row, [], {})


def _duplicates(paths: list[Path], ledger: Ledger) -> dict[Path, tuple[Path, str]]:
    """Files with the content of an earlier one, and its hash; only files of equal length are read.

    A source that is finished comes first, so that more footage never takes its clips away.
    """
    finished = {Path(row.path): row.sha256 for row in ledger.finished() if row.sha256}
    by_length: dict[int, list[Path]] = {}
    for path in [*finished, *(path for path in paths if path not in finished)]:
        by_length.setdefault(_length(path), []).append(path)
    found: dict[Path, tuple[Path, str]] = {}
    for length, same in by_length.items():
        originals: dict[str, Path] = {}
        for path in same if length and len(same) > 1 else ():
            sha256 = finished.get(path) or _sha256_or_path(path)
            if originals.setdefault(sha256, path) != path:
                found[path] = (originals[sha256], sha256)
    return {path: found[path] for path in paths if path in found}


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _sha256_or_path(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:  # it becomes a failed row when it is analysed
        return str(path)


def _summary(
    out: Path, sources: Iterable[Source], clips: list[Clip], decoded: int, seconds: float
) -> CurateSummary:
    rows = list(sources)
    return CurateSummary(
        out=out,
        sources=len(rows),
        clips=len(clips),
        kept=sum(clip.kept for clip in clips),
        dropped=dict(sorted(Counter(reason for clip in clips for reason in clip.drop_reasons).items())),
        failed={row.path: row.reason for row in rows if row.status not in {"done", "duplicate"}},
        duplicates={row.path: row.reason for row in rows if row.status == "duplicate"},
        decoded=decoded,
        seconds=seconds,
    )
