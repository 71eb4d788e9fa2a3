"""Raw footage to a dataset folder: every source decoded once, every clip a row, every run resumable."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from kinema.curate.analysis import Analysis, AnalysisConfig, KeepConfig, analyse, file_sha256, source_id
from kinema.curate.camera import CameraConfig
from kinema.curate.captions import CaptionConfig, CaptionSource
from kinema.curate.cuts import CutConfig
from kinema.curate.discover import discover
from kinema.curate.duplicates import DuplicateConfig
from kinema.curate.engines import Engine, LocalEngine, build_engine
from kinema.curate.filters import FilterConfig
from kinema.curate.ledger import Ledger
from kinema.curate.lists import holds_captions, is_list
from kinema.curate.motion import MotionConfig
from kinema.curate.overlay_text import TextConfig
from kinema.curate.pace import Pace
from kinema.curate.quality import QualityConfig
from kinema.curate.report import refresh_report
from kinema.curate.spans import SpanConfig
from kinema.curate.storage import StorageConfig, remove_stale, store_clips
from kinema.curate.workers import Budget, OverBudget, WorkerDied
from kinema.files import exclusive, writable_folder
from kinema.location import located
from kinema.manifest import Clip, Source, read_clips
from kinema.progress import Progress, Silent
from kinema.video.container import Limits

_DIED = "the worker process was killed three times while it decoded this source (out of memory?)"
_GRACE_S = 10.0
_NOT_OF_THE_RESULT = ("workers", "engine", "max_failed_share")


@dataclass(frozen=True, kw_only=True)
class CurateConfig:
    """`workers`: processes; None takes the processors, at most four (with engine "ray" those of the cluster);
    0 works in this process. A run in which more than `max_failed_share` of the sources failed is incomplete.
    """

    workers: int | None = None
    engine: Literal["local", "ray"] = "local"
    max_failed_share: float = 0.0
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
    storage: StorageConfig = field(default_factory=StorageConfig)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 0:
            raise ValueError(f"workers must not be negative, got {self.workers}")
        if not 0 <= self.max_failed_share <= 1:
            raise ValueError(f"max_failed_share must be in [0, 1], got {self.max_failed_share}")

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
    """Counts over the whole dataset folder; `decoded` is how many sources this run decoded. `stored` clips
    have files of their own; `not_stored` says by clip id why this run could not give one.
    """

    out: Path
    sources: int
    clips: int
    kept: int
    dropped: dict[str, int]
    failed: dict[str, str]
    duplicates: dict[str, str]
    decoded: int
    seconds: float
    stored: int = 0
    not_stored: dict[str, str] = field(default_factory=dict)

    def is_complete(self, max_failed_share: float) -> bool:
        """Whether something was kept, all that was asked for is stored, and no more than this share of the
        sources failed."""
        return bool(self.kept) and not self.not_stored and len(self.failed) <= max_failed_share * self.sources

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"out": str(self.out), "seconds": round(self.seconds, 3)}


def curate(
    inputs: Sequence[Path | str], out: Path, config: CurateConfig, progress: Progress | None = None
) -> CurateSummary:
    """Curate footage into the dataset folder `out`; the same call again goes on where it stopped.

    Sources are only read. Raises `DatasetError` for inputs that are missing or hold no footage.
    """
    paths = discover(inputs, out)
    with exclusive(writable_folder(out)):
        return _curate(inputs, paths, out, config, progress or Silent())


def _curate(
    inputs: Sequence[Path | str], paths: list[Path], out: Path, config: CurateConfig, progress: Progress
) -> CurateSummary:
    started = time.monotonic()
    captions = CaptionSource(_caption_config(inputs, config.captions))
    captions.check(paths)
    ledger = Ledger(out, config.analysis, config.filters, captions)
    ledger.refresh()
    duplicates = _duplicates(paths, ledger)
    todo = [path for path in paths if path not in duplicates and not ledger.is_finished(path)]
    progress.stage("curate", total=len(paths))
    progress.advance(len(paths) - len(todo) - len(duplicates))
    decoded, lengths = 0, {path: _length(path) for path in todo}
    pace = Pace(sum(lengths.values()))
    for path, analysis in _analyses(todo, duplicates, config):
        ledger.record(path, analysis)
        decoded += analysis.decodes
        pace.add(analysis.source, len(analysis.clips), lengths.get(path, 0))
        progress.advance(1, note=pace.note)
    ledger.mark_duplicates(config.duplicates)
    sources, _ = ledger.close(_recorded(config))
    not_stored = _store(ledger, config, progress)
    refresh_report(out)
    summary = _summary(out, sources, read_clips(out), decoded, time.monotonic() - started)
    return replace(summary, not_stored=not_stored)


def _store(ledger: Ledger, config: CurateConfig, progress: Progress) -> dict[str, str]:
    """Give kept clips files of their own as the config says; returns why some have none."""

    def run(tasks: int) -> tuple[Engine, Callable[[Clip], Budget]]:
        return build_engine(config.engine, config.workers, tasks), partial(_clip_budget, limits=config.limits)

    clips = read_clips(ledger.folder)
    if config.storage.mode == "span" and not any(clip.shard for clip in clips):
        return {}
    storage = store_clips(ledger.folder, clips, config.storage, run, progress)
    ledger.place(storage.clips)
    if config.storage.mode == "transcode":
        remove_stale(ledger.folder, storage.clips)
    return storage.not_stored


def _clip_budget(clip: Clip, limits: Limits) -> Budget:
    return _budget(located(clip.source_path), limits)


def _recorded(config: CurateConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key not in _NOT_OF_THE_RESULT}


def _caption_config(inputs: Sequence[Path | str], config: CaptionConfig) -> CaptionConfig:
    """A list of sources that holds texts too is the table of captions, unless another one is named."""
    paths = (located(item) for item in inputs)
    tables = [str(path) for path in paths if is_list(path) and path.is_file() and holds_captions(path)]
    return replace(config, table=tables[0]) if tables and not config.table else config


def _analyses(
    todo: list[Path], duplicates: dict[Path, tuple[Path, str]], config: CurateConfig
) -> Iterator[tuple[Path, Analysis]]:
    engine = build_engine(config.engine, config.workers, len(todo))
    alone = isinstance(engine, LocalEngine) and engine.workers <= 1
    function = partial(analyse, config=config.analysis, threads=0 if alone else 1)
    for path, result in engine.run(function, todo, partial(_budget, limits=config.limits)):
        match result:
            case WorkerDied():
                yield path, _without_result(path, "died", _DIED)
            case OverBudget():
                yield path, _without_result(path, "failed", f"decoding {result.reason} (see limits)")
            case _:
                yield path, result
    for path, (original, sha256) in duplicates.items():
        yield path, _duplicate(path, original, sha256)


def _budget(path: Path, limits: Limits) -> Budget:
    """More than the reader allows itself: a worker is killed only when its decoder does not come back."""
    return Budget(seconds=1.2 * limits.seconds(_length(path)) + _GRACE_S, memory_mb=limits.max_memory_mb)


def _without_result(path: Path, status: str, reason: str) -> Analysis:
    return Analysis(Source(source_id=source_id(path), path=str(path), status=status, reason=reason), [], {})


def _duplicate(path: Path, original: Path, sha256: str) -> Analysis:
    reason = f"same content as {original}"
    row = Source(source_id=source_id(path), path=str(path), sha256=sha256, status="duplicate", reason=reason)
    return Analysis(row, [], {})


def _duplicates(paths: list[Path], ledger: Ledger) -> dict[Path, tuple[Path, str]]:
    """Files with the content of an earlier one, and its hash; only files of equal length are read.

    A source that is finished comes first, so that more footage never takes its clips away.
    """
    finished = {located(row.path): row.sha256 for row in ledger.finished() if row.sha256}
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
        stored=sum(clip.shard is not None for clip in clips),
    )
