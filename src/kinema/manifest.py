"""The dataset folder's tables: one row per source and per clip, as Parquet parts that are renamed into place.

A finished unit of work is one part; the set of parts is the ledger from which an interrupted run goes on.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.errors import DatasetError
from kinema.files import atomic_path


@dataclass(frozen=True, kw_only=True)
class Caption:
    """A clip's text. `kind` says how it came: table, sidecar, filename, image, video, merged, measured."""

    text: str
    kind: str
    model: str = ""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A raw file: container facts, and `reason` when `status` is not "done".

    Status: done; failed (not footage, or damaged); unreadable (no permission, disk or memory) and died (its
    worker was killed), which the next run tries again; duplicate. `bytes`, `mtime_ns` and `analysis` (a
    hash of the analysing config) tell whether a row is still true.
    """

    source_id: str
    path: str
    sha256: str = ""
    status: str = "done"
    reason: str = ""
    bytes: int = 0
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: float = 0.0
    frames: int = 0
    duration_s: float = 0.0
    mtime_ns: int = 0
    analysis: str = ""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A span of a source between cuts, `end_frame` and `end_s` exclusive; kept, or dropped with reasons.

    `width` and `height` are as displayed (after rotation and pixel aspect); `aspect_ratio` is
    height / width. Scores are None where they were not computed. `shard` is the file, relative to the dataset
    folder, that holds the pixels when they were copied out of the source: all of it, or `size` bytes from
    `offset`; the `stored_*` columns say which part of the source it holds, and at which size.
    `turned`: training turns its frames by a quarter, clockwise; height, width and aspect_ratio are as turned.
    `elevation` and `azimuth`: degrees of the first frame's camera, of an orbit once around a rendered object.
    """

    clip_id: str
    source_id: str
    source_path: str
    start_frame: int
    end_frame: int
    start_s: float
    end_s: float
    cut_kind_start: str
    cut_kind_end: str
    frames: int
    fps: float
    width: int
    height: int
    aspect_ratio: float
    duration_s: float
    motion_score: float | None = None
    motion_direction: str | None = None
    camera_motion: str | None = None
    camera_confidence: float | None = None
    text_area: float | None = None
    aesthetic_score: float | None = None
    technical_quality: float | None = None
    brightness: float | None = None
    black_frames: float | None = None
    frozen_frames: float | None = None
    letterbox: float | None = None
    crop: str | None = None
    frame_hashes: str | None = None
    text_match: float | None = None
    captions: tuple[Caption, ...] = ()
    near_duplicate_of: str | None = None
    kept: bool = True
    drop_reasons: tuple[str, ...] = field(default=())
    shard: str | None = None
    offset: int | None = None
    size: int | None = None
    stored_start_s: float | None = None
    stored_end_s: float | None = None
    stored_frames: int | None = None
    stored_height: int | None = None
    stored_width: int | None = None
    elevation: float | None = None
    azimuth: float | None = None
    turned: bool | None = None


SOURCE_SCHEMA = pa.schema(
    [
        ("source_id", pa.string()),
        ("path", pa.string()),
        ("sha256", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("bytes", pa.int64()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("fps", pa.float64()),
        ("frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("mtime_ns", pa.int64()),
        ("analysis", pa.string()),
    ]
)

CLIP_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("source_id", pa.string()),
        ("source_path", pa.string()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("cut_kind_start", pa.string()),
        ("cut_kind_end", pa.string()),
        ("frames", pa.int64()),
        ("fps", pa.float64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("aspect_ratio", pa.float64()),
        ("duration_s", pa.float64()),
        ("motion_score", pa.float64()),
        ("motion_direction", pa.string()),
        ("camera_motion", pa.string()),
        ("camera_confidence", pa.float64()),
        ("text_area", pa.float64()),
        ("aesthetic_score", pa.float64()),
        ("technical_quality", pa.float64()),
        ("brightness", pa.float64()),
        ("black_frames", pa.float64()),
        ("frozen_frames", pa.float64()),
        ("letterbox", pa.float64()),
        ("crop", pa.string()),
        ("frame_hashes", pa.string()),
        ("text_match", pa.float64()),
        (
            "captions",
            pa.list_(pa.struct([("text", pa.string()), ("kind", pa.string()), ("model", pa.string())])),
        ),
        ("near_duplicate_of", pa.string()),
        ("kept", pa.bool_()),
        ("drop_reasons", pa.list_(pa.string())),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("size", pa.int64()),
        ("stored_start_s", pa.float64()),
        ("stored_end_s", pa.float64()),
        ("stored_frames", pa.int64()),
        ("stored_height", pa.int32()),
        ("stored_width", pa.int32()),
        ("elevation", pa.float64()),
        ("azimuth", pa.float64()),
        ("turned", pa.bool_()),
    ]
)


def clip_id(sha256: str, start_frame: int, end_frame: int) -> str:
    """Content-addressed: the same span of the same bytes has the same id in every run."""
    return hashlib.sha256(f"{sha256}:{start_frame}:{end_frame}".encode()).hexdigest()[:16]


def whole_clip(  # noqa: PLR0913 - the facts of a row
    *,
    clip_id: str,
    source_id: str,
    source_path: str,
    frames: int,
    fps: float,
    height: int,
    width: int,
    duration_s: float,
    captions: tuple[Caption, ...] = (),
) -> Clip:
    """The clip that is all of its source; `fps` and `duration_s` are 0 for an image."""
    return Clip(
        clip_id=clip_id,
        source_id=source_id,
        source_path=source_path,
        start_frame=0,
        end_frame=frames,
        start_s=0.0,
        end_s=duration_s,
        cut_kind_start="start",
        cut_kind_end="end",
        frames=frames,
        fps=fps,
        width=width,
        height=height,
        aspect_ratio=height / width,
        duration_s=duration_s,
        captions=captions,
    )


def write_sources(folder: Path, part: str, rows: list[Source]) -> None:
    """Write `sources/part-<part>.parquet` atomically."""
    _write_part(folder / "sources" / f"part-{part}.parquet", [asdict(row) for row in rows], SOURCE_SCHEMA)


def write_clips(folder: Path, part: str, rows: list[Clip]) -> None:
    """Write `clips/part-<part>.parquet` atomically."""
    _write_part(folder / "clips" / f"part-{part}.parquet", [asdict(row) for row in rows], CLIP_SCHEMA)


def read_sources(folder: Path) -> list[Source]:
    """All sources of a dataset folder, in order of path."""
    rows = _read_parts(folder, "sources")
    return sorted((Source(**row) for row in rows), key=lambda source: source.path)


def read_clips(folder: Path) -> list[Clip]:
    """All clips of a dataset folder, kept and dropped, in order of (source path, start)."""
    names = {item.name for item in fields(Clip)}
    clips = [
        _clip({key: value for key, value in row.items() if key in names})
        for row in _read_parts(folder, "clips")
    ]
    return sorted(clips, key=lambda clip: (clip.source_path, clip.start_frame, clip.clip_id))


def read_part(part: Path) -> list[Clip]:
    """The clips of one part."""
    names = {item.name for item in fields(Clip)}
    rows = pq.read_table(part).to_pylist()
    return [_clip({key: value for key, value in row.items() if key in names}) for row in rows]


def _clip(row: dict[str, Any]) -> Clip:
    captions = tuple(Caption(**caption) for caption in row.pop("captions") or ())
    return Clip(**row | {"captions": captions, "drop_reasons": tuple(row.pop("drop_reasons") or ())})


def _write_part(target: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    with atomic_path(target) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), temporary)


def require_dataset(folder: Path) -> None:
    """Raise `DatasetError` when the folder is no dataset folder."""
    if not (folder / "dataset.toml").is_file():
        raise DatasetError(
            f"{folder} is not a dataset folder (no dataset.toml); "
            f"make one with: kinema curate FOOTAGE --out {folder}"
        )


def _read_parts(folder: Path, table: str) -> list[dict[str, Any]]:
    require_dataset(folder)
    parts = sorted((folder / table).glob("part-*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]
