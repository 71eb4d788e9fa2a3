"""Where the pixels of kept clips go: nowhere (spans of their sources), copies of their packets, or shards.

Every clip is first a file with its JSON beside it, renamed into place; shards are packed from these in the
manifest's order. So a run that was killed goes on, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinema.curate.engines import Engine
from kinema.curate.workers import Budget, OverBudget, WorkerDied
from kinema.dataset.facts import NOWHERE, clip_facts
from kinema.dataset.shards import Member, Packable, read_shard, write_shard
from kinema.dataset.windows import grid_size, grid_times
from kinema.errors import DecodeError
from kinema.files import atomic_path, write_text
from kinema.location import located, open_bytes
from kinema.manifest import Clip
from kinema.progress import Progress
from kinema.shapes import Size
from kinema.video.clips import Grid, copy_span, copy_suffix, encode_span, encode_still
from kinema.video.writer import Encoding


@dataclass(frozen=True, kw_only=True)
class StorageConfig:
    """`mode` span refers to the source; copy takes whole groups of pictures out of it without encoding;
    transcode encodes anew, the shorter side at most `side` and a key frame every `gop` frames, into shards
    of about `shard_mb`.
    """

    mode: Literal["span", "copy", "transcode"] = "span"
    side: int = 512
    gop: int = 8
    crf: int = 20
    shard_mb: int = 512

    def __post_init__(self) -> None:
        for name in ("side", "gop", "shard_mb"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    @property
    def key(self) -> str:
        """Names a way of storing: what was stored in another way is stored again."""
        content = asdict(self) if self.mode == "transcode" else {"mode": self.mode}
        content.pop("shard_mb", None)
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Storage:
    """All rows with the places of what is stored, and why a kept clip is not."""

    clips: list[Clip]
    not_stored: dict[str, str] = field(default_factory=dict)


def store_clips(
    out: Path,
    clips: list[Clip],
    config: StorageConfig,
    run: Callable[[int], tuple[Engine, Callable[[Clip], Budget]]],
    progress: Progress,
) -> Storage:
    """Store the pixels of kept clips that are not stored yet; `run` gives the engine for so many tasks."""
    if config.mode == "span":
        return Storage([replace(clip, **NOWHERE) for clip in clips])
    folder = out / ("copies" if config.mode == "copy" else "shards/staged")
    packed = _packed(out, config.key)
    kept = [clip for clip in clips if clip.kept and clip.clip_id not in packed]
    todo = [clip for clip in kept if _staged(folder, clip, config.key) is None]
    failures: dict[str, str] = {}
    progress.stage(config.mode, total=len(todo))
    engine, budget = run(len(todo))
    for clip, outcome in engine.run(partial(store_clip, folder=folder, config=config), todo, budget):
        if reason := _reason(outcome):
            failures[clip.clip_id] = reason
        progress.advance(1, note=clip.clip_id)
    if config.mode == "copy":
        return Storage([_copied(out, folder, clip, config.key) for clip in clips], failures)
    _pack(out, [found for clip in kept if (found := _staged(folder, clip, config.key))], config)
    packed = _packed(out, config.key)
    return Storage([_in_shard(clip, packed) for clip in clips], failures)


def remove_stale(out: Path, clips: Iterable[Clip]) -> None:
    """Remove shards and staged files that no row refers to; call it when the rows are written."""
    used = {clip.shard for clip in clips}
    for path in sorted((out / "shards").glob("clips-*.tar")):
        if path.relative_to(out).as_posix() not in used:
            path.unlink()
    shutil.rmtree(out / "shards" / "staged", ignore_errors=True)


def store_clip(clip: Clip, folder: Path, config: StorageConfig) -> str:
    """Write one clip's pixels and its JSON into `folder`; the reason when that cannot be done."""
    try:
        stored = _copy(clip, folder) if config.mode == "copy" else _transcode(clip, folder, config)
    except DecodeError as error:
        return " ".join(str(error).split())
    if stored is None:
        return "no whole group of pictures lies inside the clip"
    facts = clip_facts(clip) | {"stored": stored, "storage": config.key}
    write_text(folder / f"{clip.clip_id}.json", json.dumps(facts, ensure_ascii=False, sort_keys=True))
    return ""


def training_size(clip: Clip, side: int) -> Size:
    """The clip's size with the shorter side at most `side`, never larger than it is, in even numbers."""
    scale = min(1.0, side / min(clip.height, clip.width))
    return Size(
        height=max(2, 2 * round(clip.height * scale / 2)), width=max(2, 2 * round(clip.width * scale / 2))
    )


def _transcode(clip: Clip, folder: Path, config: StorageConfig) -> dict[str, Any]:
    source, size = located(clip.source_path), training_size(clip, config.side)
    if clip.duration_s == 0:
        with atomic_path(folder / f"{clip.clip_id}.jpg") as temporary:
            temporary.write_bytes(encode_still(source, size))
        return _stored(clip.start_s, clip.end_s, 1, size) | {"suffix": ".jpg"}
    frames = grid_size(clip)
    grid = Grid(times_s=grid_times(clip, np.arange(frames)), fps=frames / clip.duration_s, size=size)
    encoding = Encoding(crf=config.crf, gop=config.gop, threads=1)
    encode_span(source, grid, folder / f"{clip.clip_id}.mp4", encoding)
    return _stored(clip.start_s, clip.end_s, frames, size) | {"suffix": ".mp4"}


def _copy(clip: Clip, folder: Path) -> dict[str, Any] | None:
    source, size = located(clip.source_path), Size(height=clip.height, width=clip.width)
    still = clip.duration_s == 0
    suffix = source.suffix.lower() if still else copy_suffix(source)
    with atomic_path(folder / f"{clip.clip_id}{suffix}") as temporary:
        if still:
            with open_bytes(source) as file:
                temporary.write_bytes(file.read())
            return _stored(clip.start_s, clip.end_s, 1, size) | {"suffix": suffix}
        end_s = None if clip.cut_kind_end == "end" else clip.end_s
        span = copy_span(source, clip.start_s, end_s, temporary)
    if span is None:
        (folder / f"{clip.clip_id}{suffix}").unlink()
        return None
    return _stored(span.start_s, min(span.end_s, clip.end_s), span.frames, size) | {"suffix": suffix}


def _stored(start_s: float, end_s: float, frames: int, size: Size) -> dict[str, Any]:
    return {
        "start_s": start_s,
        "end_s": end_s,
        "frames": frames,
        "height": size.height,
        "width": size.width,
    }


def _staged(folder: Path, clip: Clip, key: str) -> Packable | None:
    """A clip's file in `folder`, when it is there and was made in this way; its JSON is written last."""
    try:
        facts = json.loads((folder / f"{clip.clip_id}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if facts.get("storage") != key:
        return None
    pixels = folder / f"{clip.clip_id}{facts['stored']['suffix']}"
    return Packable(clip.clip_id, pixels, facts) if pixels.is_file() else None


def _copied(out: Path, folder: Path, clip: Clip, key: str) -> Clip:
    found = _staged(folder, clip, key)
    if found is None:
        return replace(clip, **NOWHERE)
    name, size = found.pixels.relative_to(out).as_posix(), found.pixels.stat().st_size
    return replace(clip, shard=name, offset=None, size=size, **_columns(found.facts))


def _in_shard(clip: Clip, packed: dict[str, tuple[str, Member]]) -> Clip:
    if clip.clip_id not in packed:
        return replace(clip, **NOWHERE)
    shard, member = packed[clip.clip_id]
    return replace(clip, shard=shard, offset=member.offset, size=member.size, **_columns(member.facts))


def _columns(facts: Any) -> dict[str, Any]:  # noqa: ANN401 (JSON)
    return {f"stored_{name}": value for name, value in facts["stored"].items() if name != "suffix"}


def _packed(out: Path, key: str) -> dict[str, tuple[str, Member]]:
    """What lies in the shards that were made in this way."""
    return {
        member.clip_id: (path.relative_to(out).as_posix(), member)
        for path in sorted((out / "shards").glob("clips-*.tar"))
        for member in read_shard(path)
        if member.facts.get("storage") == key
    }


def _pack(out: Path, clips: list[Packable], config: StorageConfig) -> None:
    numbers = [int(path.stem.rpartition("-")[2]) for path in (out / "shards").glob("clips-*.tar")]
    for number, group in enumerate(_groups(clips, config.shard_mb << 20), max(numbers, default=-1) + 1):
        write_shard(out / "shards" / f"clips-{number:05}.tar", group)
        for clip in group:
            clip.pixels.with_suffix(".json").unlink()
            clip.pixels.unlink()


def _groups(clips: list[Packable], limit_bytes: int) -> Iterator[list[Packable]]:
    group, filled = list[Packable](), 0
    for clip in clips:
        size = clip.pixels.stat().st_size
        if group and filled + size > limit_bytes:
            yield group
            group, filled = [], 0
        group.append(clip)
        filled += size
    if group:
        yield group


def _reason(outcome: str | WorkerDied | OverBudget) -> str:
    match outcome:
        case WorkerDied():
            return "the worker process was killed three times while it stored this clip"
        case OverBudget():
            return f"storing it {outcome.reason} (see limits)"
        case _:
            return outcome
