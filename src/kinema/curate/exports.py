"""A dataset in the forms of others: plain files, Open-Sora's CSV, WebDataset, a Hugging Face folder."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from kinema.dataset.facts import clip_facts
from kinema.dataset.shards import Packable, write_shard
from kinema.dataset.store import as_stored, kept_clips, source_file
from kinema.dataset.windows import grid_size, grid_times
from kinema.errors import DecodeError, OutputError
from kinema.files import atomic_path, writable_folder, write_text
from kinema.location import open_bytes
from kinema.manifest import Clip, read_clips
from kinema.progress import Progress, Silent
from kinema.shapes import Size
from kinema.video.clips import Grid, encode_span, encode_still
from kinema.video.writer import Encoding

Format: TypeAlias = Literal["folder", "csv", "webdataset", "huggingface"]

OPEN_SORA_COLUMNS = (
    *("path", "text", "num_frames", "width", "height", "aspect_ratio", "resolution", "text_len"),
    *("aes", "flow", "match", "fps", "cmotion"),
)
OWN_COLUMNS = ("clip_id", "source_path", "start_s", "end_s", "kinema")
SETTINGS = "kinema-export.json"
FACTS = "clips.jsonl"
_SHARD_BYTES = 512 << 20


@dataclass(frozen=True)
class Exported:
    """One clip's file, and what `clip_facts` tells with what the file holds under "stored"."""

    clip: Clip
    pixels: Path
    facts: dict[str, Any]


def export(dataset: Path, out: Path, kind: Format, progress: Progress | None = None) -> dict[str, Any]:
    """Write the kept clips of a dataset folder to `out`; a second call goes on where the first one stopped.

    A stored clip is given as it is, a span is encoded at its own size. Raises `OutputError` for a folder that
    holds another export.
    """
    progress = progress or Silent()
    clips, left_out = _given(dataset, kind)
    _claim(writable_folder(out), {"format": kind})
    folder = out / {"folder": ".", "csv": "clips", "webdataset": "staged", "huggingface": "videos"}[kind]
    progress.stage("export", total=len(clips))
    done, failed = list[Exported](), dict[str, str]()
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        for clip, exported in zip(clips, pool.map(partial(_attempt, dataset, folder), clips), strict=True):
            if isinstance(exported, Exported):
                done.append(exported)
            else:
                failed[clip.clip_id] = exported
            progress.advance(1)
    finally:
        pool.shutdown(cancel_futures=True)
    match kind:
        case "folder":
            _finish_folder(out, done)
        case "csv":
            _finish_csv(out, done)
        case "webdataset":
            _finish_webdataset(out, done)
        case "huggingface":
            _finish_huggingface(out, done)
    summary = {"out": str(out), "format": kind, "clips": len(done), "failed": failed}
    return summary | ({"left_out": f"{left_out} photo(s): datasets reads videos only"} if left_out else {})


def _given(dataset: Path, kind: Format) -> tuple[list[Clip], int]:
    """The clips to write, and how many photos are left out: `datasets` reads one kind in a folder."""
    kept = {clip.clip_id for clip in kept_clips(dataset)}
    clips = [clip for clip in read_clips(dataset) if clip.clip_id in kept]
    moving = [clip for clip in clips if clip.duration_s]
    return (moving, len(clips) - len(moving)) if kind == "huggingface" else (clips, 0)


def _claim(out: Path, settings: dict[str, str]) -> None:
    file = out / SETTINGS
    if file.is_file() and file.read_text(encoding="utf-8") != json.dumps(settings):
        raise OutputError(f"{out} holds another export (see {file.name}); choose another folder")
    write_text(file, json.dumps(settings))


def _attempt(dataset: Path, folder: Path, clip: Clip) -> Exported | str:
    """The clip's file, or why there is none."""
    try:
        return _export_clip(dataset, clip, folder)
    except DecodeError as error:
        return str(error)


def _export_clip(dataset: Path, clip: Clip, folder: Path) -> Exported:
    stored = as_stored(clip)
    suffix = _suffix(clip)
    target = folder / f"{clip.clip_id}{suffix}"
    if not target.is_file():
        if clip.shard:
            with atomic_path(target) as temporary, open_bytes(source_file(dataset, clip)) as file:
                temporary.write_bytes(file.read())
        else:
            _encode(dataset, clip, target)
    place = {
        "start_s": clip.start_s if clip.stored_start_s is None else clip.stored_start_s,
        "end_s": clip.end_s if clip.stored_end_s is None else clip.stored_end_s,
        "frames": stored.frames if clip.shard else grid_size(clip),
        "height": stored.height,
        "width": stored.width,
    }
    return Exported(clip, target, clip_facts(clip) | {"stored": place})


def _suffix(clip: Clip) -> str:
    if clip.shard and clip.offset is None:
        return Path(clip.shard).suffix
    return ".mp4" if clip.duration_s else ".jpg"


def _encode(dataset: Path, clip: Clip, target: Path) -> None:
    source, size = source_file(dataset, clip), Size(height=clip.height, width=clip.width)
    if clip.duration_s == 0:
        with atomic_path(target) as temporary:
            temporary.write_bytes(encode_still(source, size))
        return
    frames = grid_size(clip)
    grid = Grid(times_s=grid_times(clip, np.arange(frames)), fps=frames / clip.duration_s, size=size)
    encode_span(source, grid, target, Encoding(threads=1))


def _finish_folder(out: Path, clips: Sequence[Exported]) -> None:
    for item in clips:
        texts = [caption.text for caption in item.clip.captions]
        write_text(item.pixels.with_suffix(".txt"), "\n\n".join(texts) + "\n" * bool(texts))
    _write_lines(out / FACTS, (item.facts for item in clips))


def _finish_csv(out: Path, clips: Sequence[Exported]) -> None:
    table = StringIO(newline="")
    rows = csv.DictWriter(table, [*OPEN_SORA_COLUMNS, *OWN_COLUMNS])
    rows.writeheader()
    rows.writerows(open_sora_row(item) for item in clips)
    write_text(out / "clips.csv", table.getvalue())


def open_sora_row(item: Exported) -> dict[str, Any]:
    """Open-Sora's columns say what the file holds (`text_len` in words), kinema's where it comes from."""
    clip, stored = item.clip, item.facts["stored"]
    height, width = stored["height"], stored["width"]
    text = item.facts["text"]
    return {
        "path": str(item.pixels.absolute()),
        "text": text,
        "num_frames": stored["frames"],
        "width": width,
        "height": height,
        "aspect_ratio": height / width,
        "resolution": height * width,
        "text_len": len(text.split()),
        "aes": clip.aesthetic_score,
        "flow": clip.motion_score,
        "match": clip.text_match,
        "fps": clip.fps,
        "cmotion": clip.camera_motion,
        "clip_id": clip.clip_id,
        "source_path": clip.source_path,
        "start_s": clip.start_s,
        "end_s": clip.end_s,
        "kinema": json.dumps(item.facts, ensure_ascii=False, sort_keys=True),
    }


def _finish_webdataset(out: Path, clips: Sequence[Exported]) -> None:
    for number, group in enumerate(_groups(clips)):
        packables = [Packable(item.clip.clip_id, item.pixels, item.facts) for item in group]
        write_shard(out / f"clips-{number:05}.tar", packables)
    for item in clips:
        item.pixels.unlink()
    if (out / "staged").is_dir():
        (out / "staged").rmdir()


def _groups(clips: Sequence[Exported]) -> Iterator[list[Exported]]:
    group, filled = list[Exported](), 0
    for item in clips:
        size = item.pixels.stat().st_size
        if group and filled + size > _SHARD_BYTES:
            yield group
            group, filled = [], 0
        group.append(item)
        filled += size
    if group:
        yield group


def _finish_huggingface(out: Path, clips: Sequence[Exported]) -> None:
    """`metadata.jsonl` names files and columns."""
    names = ("clip_id", "text", "source_path", "start_s", "end_s", "fps", "motion_score", "camera_motion")
    rows = (
        {"file_name": item.pixels.relative_to(out).as_posix()} | {name: item.facts[name] for name in names}
        for item in clips
    )
    _write_lines(out / "metadata.jsonl", rows)


def _write_lines(target: Path, rows: Iterator[dict[str, Any]]) -> None:
    lines = (json.dumps(row, ensure_ascii=False, sort_keys=True) for row in rows)
    write_text(target, "".join(f"{line}\n" for line in lines))


FORMATS: tuple[str, ...] = get_args(Format)
