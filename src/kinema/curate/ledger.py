"""The dataset folder as a ledger: a source's part, written last, says that the source is finished."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import tomli_w

from kinema import __version__
from kinema.curate.analysis import Analysis, AnalysisConfig, source_id
from kinema.curate.captions import CaptionSource
from kinema.curate.duplicates import DuplicateConfig, mark_duplicates
from kinema.curate.filters import FilterConfig, filtered
from kinema.curate.made_captions import MadeCaptions
from kinema.curate.refilter import read_settings, refilter
from kinema.files import atomic_path, writable_folder, write_text
from kinema.location import located
from kinema.manifest import Caption, Clip, Source, read_clips, read_sources, write_clips, write_sources

_ANALYSIS_VERSION = 3  # raise it when the same config and file give other clips or scores
_FINISHED = {"done", "failed"}


class Ledger:
    """What is known about a dataset folder's sources; every record is a Parquet part renamed into place."""

    def __init__(
        self, folder: Path, analysis: AnalysisConfig, filters: FilterConfig, captions: CaptionSource
    ) -> None:
        self.folder = writable_folder(folder)
        self._key = analysis_key(analysis)
        self._filters = filters.without_fractions()
        self._all_filters = filters
        self._captions = captions
        self._made = MadeCaptions(folder)
        if not (folder / "dataset.toml").is_file():
            write_text(folder / "dataset.toml", tomli_w.dumps({"kinema": __version__}))
        self._sources = {located(row.path): row for row in read_sources(folder)}

    def is_finished(self, path: Path) -> bool:
        """Whether this file, as it is now, was analysed with this config; a killed worker is tried again."""
        row = self._sources.get(path)
        return (
            row is not None
            and row.status in _FINISHED
            and (row.analysis, row.bytes, row.mtime_ns) == (self._key, *_stamp(path))
        )

    def finished(self) -> Iterator[Source]:
        """Rows of sources that are still there, unchanged."""
        return (row for path, row in self._sources.items() if self.is_finished(path))

    def refresh(self) -> None:
        """Captions anew for the clips that are there; unchanged parts are not touched."""
        by_source: dict[Path, list[Clip]] = {}
        for clip in read_clips(self.folder):
            by_source.setdefault(located(clip.source_path), []).append(clip)
        for path, clips in by_source.items():
            current = self._captioned(path, clips)
            if current != clips:
                write_clips(self.folder, source_id(path), current)

    def record(self, path: Path, analysis: Analysis) -> None:
        """Thumbnails and clips first, the source's row last: only then is the source finished."""
        size, mtime_ns = _stamp(path)
        row = replace(analysis.source, bytes=size, mtime_ns=mtime_ns, analysis=self._key)
        if self._sources.get(path) == row and not analysis.clips:
            return
        part = row.source_id
        (self.folder / "sources" / f"part-{part}.parquet").unlink(missing_ok=True)
        for name, content in analysis.thumbnails.items():
            with atomic_path(thumbnail_path(self.folder, name)) as temporary:
                temporary.write_bytes(content)
        if analysis.clips:
            clips = filtered(self._captioned(path, analysis.clips), self._filters)
            write_clips(self.folder, part, clips)
        else:
            (self.folder / "clips" / f"part-{part}.parquet").unlink(missing_ok=True)
        write_sources(self.folder, part, [row])
        self._sources[path] = row

    def mark_duplicates(self, config: DuplicateConfig) -> None:
        """Compare all clips with one another; rewrites the parts in which `near_duplicate_of` changes."""
        before = read_clips(self.folder)
        by_source: dict[str, list[tuple[Clip, Clip]]] = {}
        for old, new in zip(before, mark_duplicates(before, config), strict=True):
            by_source.setdefault(old.source_path, []).append((old, new))
        for path, pairs in by_source.items():
            if any(old.near_duplicate_of != new.near_duplicate_of for old, new in pairs):
                write_clips(self.folder, source_id(located(path)), [new for _, new in pairs])

    def place(self, clips: list[Clip]) -> None:
        """Write where the pixels of clips are stored; unchanged parts are not touched."""
        before = {clip.clip_id: clip for clip in read_clips(self.folder)}
        by_source: dict[str, list[Clip]] = {}
        for clip in clips:
            by_source.setdefault(clip.source_id, []).append(clip)
        for part, rows in by_source.items():
            if any(before[row.clip_id] != row for row in rows):
                write_clips(self.folder, part, rows)

    def close(self, config: dict[str, object]) -> tuple[list[Source], list[Clip]]:
        """Filter all clips, write dataset.toml with the resolved config and counts; return all rows."""
        refilter(self.folder, self._all_filters)
        sources, clips = read_sources(self.folder), read_clips(self.folder)
        counts = {
            "sources": len(sources),
            "failed": sum(row.status not in {"done", "duplicate"} for row in sources),
            "clips": len(clips),
            "kept": sum(clip.kept for clip in clips),
        }
        settings = {"kinema": __version__, "counts": counts, "config": _without_none(config)}
        text = tomli_w.dumps({**read_settings(self.folder), **settings})
        target = self.folder / "dataset.toml"
        if target.read_text(encoding="utf-8") != text:
            write_text(target, text)
        return sources, clips

    def _captioned(self, path: Path, clips: list[Clip]) -> list[Clip]:
        return [self._made.added_to(clip, self._captions_of(path, clip)) for clip in clips]

    def _captions_of(self, path: Path, clip: Clip) -> tuple[Caption, ...]:
        return self._captions.captions(path, middle_s=(clip.start_s + clip.end_s) / 2)


def analysis_key(config: AnalysisConfig) -> str:
    """Names a way of analysing: rows made with another one are made again."""
    content = json.dumps([_ANALYSIS_VERSION, asdict(config)], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def thumbnail_path(folder: Path, clip_id: str) -> Path:
    """Where a clip's small picture lies."""
    return folder / "thumbnails" / f"{clip_id}.jpg"


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_size, found.st_mtime_ns


def _without_none(value: object) -> object:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return list(value) if isinstance(value, tuple) else value
