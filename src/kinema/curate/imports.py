"""Clips that others have cut to a dataset folder: plain files, a CSV as Open-Sora reads, WebDataset shards.

Nothing is copied and nothing is cut: every file is one clip. Files that kinema exported keep their rows.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import tomli_w

from kinema import __version__
from kinema.curate.analysis import source_id
from kinema.curate.captions import CaptionConfig, CaptionSource
from kinema.curate.discover import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from kinema.curate.exports import FACTS
from kinema.dataset.facts import clip_of
from kinema.dataset.shards import read_shard
from kinema.errors import DatasetError, DecodeError, OutputError
from kinema.files import writable_folder, write_text
from kinema.location import PackedFile, open_bytes
from kinema.manifest import Caption, Clip, Source, clip_id, whole_clip, write_clips, write_sources
from kinema.progress import Progress, Silent
from kinema.video.reader import SourceInfo, open_source

_SUFFIXES = VIDEO_SUFFIXES | IMAGE_SUFFIXES


@dataclass(frozen=True)
class Entry:
    """One clip's file, or its place in a shard, and what is told about it."""

    pixels: Path | PackedFile
    facts: Mapping[str, Any]
    captions: tuple[Caption, ...]

    @property
    def name(self) -> str:
        """For the row of a file of unknown origin."""
        return str(self.pixels)


def import_clips(source: Path, out: Path, progress: Progress | None = None) -> dict[str, Any]:
    """Write the dataset folder `out` for a folder of clips, a .csv, a .tar or a folder of shards.

    Raises `DatasetError` when there are none, `OutputError` when `out` is a dataset already.
    """
    progress = progress or Silent()
    entries = list(_entries(source.absolute()))
    if not entries:
        raise DatasetError(f"{source}: no clips in it; name a folder of clips, a .csv, or .tar shards")
    if (out / "dataset.toml").is_file():
        raise OutputError(f"{out} is a dataset already; import into another folder")
    writable_folder(out)
    progress.stage("import", total=len(entries))
    clips, failed = dict[str, Clip](), dict[str, str]()
    for entry in entries:
        try:
            clip = _clip(entry)
            clips.setdefault(clip.clip_id, clip)
        except (DecodeError, OSError) as error:
            failed[entry.name] = " ".join(str(error).split())
        progress.advance(1)
    _write(out, list(clips.values()), failed)
    return {"out": str(out), "clips": len(clips), "failed": failed}


def _entries(source: Path) -> Iterator[Entry]:
    shards = sorted(source.glob("*.tar")) if source.is_dir() else [source] if source.suffix == ".tar" else []
    if shards:
        yield from (entry for shard in shards for entry in _from_shard(shard))
    elif source.suffix.lower() == ".csv" and source.is_file():
        yield from _from_csv(source)
    elif source.is_dir():
        yield from _from_folder(source)
    else:
        raise DatasetError(f"{source}: no such folder, .csv or .tar")


def _from_shard(shard: Path) -> Iterator[Entry]:
    for member in read_shard(shard, _SUFFIXES):
        pixels = PackedFile(shard, member.offset, member.size, Path(member.name).suffix)
        text = member.facts.get("text") or member.facts.get("caption") or ""
        yield Entry(pixels, member.facts, _captions([str(text)], "table"))


def _from_csv(table: Path) -> Iterator[Entry]:
    csv.field_size_limit(sys.maxsize)
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if "path" not in (rows.fieldnames or ()):
            raise DatasetError(f"{table}: needs a column path, has {rows.fieldnames}")
        for row in rows:
            path = table.parent / row["path"]
            if not path.is_file():  # moved together with its table
                path = table.parent / "clips" / path.name
            facts = _json(row.get("kinema") or "{}", f"{table}, line {rows.line_num}")
            yield Entry(path, facts, _captions([row.get("text") or ""], "table"))


def _from_folder(folder: Path) -> Iterator[Entry]:
    told: dict[str, Any] = {}
    if (folder / FACTS).is_file():
        lines = (folder / FACTS).read_text(encoding="utf-8").splitlines()
        told = {facts["clip_id"]: facts for line in lines if (facts := _json(line, str(folder / FACTS)))}
    captions = CaptionSource(CaptionConfig(filenames=False))
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith("."):
            yield Entry(path, told.get(path.stem, {}), captions.captions(path))


def _json(text: str, place: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DatasetError(f"{place}: not valid JSON") from error
    return content if isinstance(content, dict) else {}


def _captions(texts: Iterable[str], kind: str) -> tuple[Caption, ...]:
    return tuple(Caption(text=text, kind=kind) for text in texts if text.strip())


def _clip(entry: Entry) -> Clip:
    with open_source(entry.pixels, threads=1) as reader:
        info = reader.info
        frames = info.frames or sum(1 for _ in reader.pictures())
    clip = clip_of(entry.facts)
    if clip is None:
        return _whole_file(entry, info, frames)
    stored = entry.facts.get("stored") or {}
    return replace(
        clip,
        captions=_merged(clip.captions, entry.captions),
        kept=True,
        drop_reasons=(),
        **_place(entry),
        stored_start_s=stored.get("start_s", clip.start_s),
        stored_end_s=stored.get("end_s", clip.end_s),
        stored_frames=frames,
        stored_height=info.height,
        stored_width=info.width,
    )


def _merged(told: tuple[Caption, ...], beside: tuple[Caption, ...]) -> tuple[Caption, ...]:
    """Captions as they are told, unless what lies beside the clip says something else: then that."""
    texts = {caption.text for caption in told}
    return told if not beside or {caption.text for caption in beside} <= texts else beside


def _place(entry: Entry) -> dict[str, Any]:
    match entry.pixels:
        case PackedFile() as packed:
            return {"shard": str(packed.shard), "offset": packed.offset, "size": packed.size}
        case path:
            return {"shard": str(path), "offset": None, "size": path.stat().st_size}


def _whole_file(entry: Entry, info: SourceInfo, frames: int) -> Clip:
    with open_bytes(entry.pixels) as file:
        digest = sha256(file.read()).hexdigest()
    fps = 0.0 if info.is_image else info.fps
    duration_s = 0.0 if info.is_image else info.duration_s or frames / fps
    clip = whole_clip(
        clip_id=clip_id(digest, 0, frames),
        source_id=source_id(Path(entry.name)),
        source_path=entry.name,
        frames=frames,
        fps=fps,
        width=info.width,
        height=info.height,
        duration_s=duration_s,
        captions=entry.captions,
    )
    return clip if isinstance(entry.pixels, Path) else replace(clip, **_place(entry))


def _write(out: Path, clips: list[Clip], failed: dict[str, str]) -> None:
    by_source: dict[str, list[Clip]] = {}
    for clip in clips:
        by_source.setdefault(clip.source_id, []).append(clip)
    for part, group in by_source.items():  # the parts that curation would write
        write_clips(out, part, group)
        write_sources(out, part, [_source_row(group)])
    for path, reason in failed.items():
        part = source_id(Path(path))
        write_sources(out, part, [Source(source_id=part, path=path, status="failed", reason=reason)])
    total = {"sources": len(by_source) + len(failed), "failed": len(failed)}
    counts = total | {"clips": len(clips), "kept": len(clips)}
    write_text(out / "dataset.toml", tomli_w.dumps({"kinema": __version__, "counts": counts}))


def _source_row(clips: list[Clip]) -> Source:
    last = max(clips, key=lambda clip: clip.end_s)
    return Source(
        source_id=last.source_id,
        path=last.source_path,
        width=last.width,
        height=last.height,
        fps=last.fps,
        frames=last.end_frame,
        duration_s=last.end_s,
    )
