"""A dataset's clip table in memory, as DuckDB has it: parts that change on disk are read again."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
from jaxtyping import Bool

from kinema.curate.clip_table import SCORE_COLUMNS, scores_in
from kinema.curate.filters import Scores
from kinema.manifest import CLIP_SCHEMA, Clip, read_part
from kinema.studio.clip_query import PAGE_SIZE, ClipQuery

_LOOK_EVERY_S = 1.0
_STORED = pa.schema([item for item in CLIP_SCHEMA if item.name != "frame_hashes"])
_COLUMNS = f"""
    SELECT {", ".join(f'"{name}"' for name in _STORED.names)}, least(width, height) AS side,
        lower(array_to_string(list_transform(captions, lambda c: c.text), chr(10))) AS caption_text,
        array_to_string(drop_reasons, '; ') AS reasons, __filename AS part
    FROM incoming
"""
Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """A page of clips, and how many there are in all."""

    rows: list[Row]
    clips: int
    kept: int
    hours: float

    @property
    def pages(self) -> int:
        return max(1, -(-self.clips // PAGE_SIZE))


class ClipIndex:
    """Answers for pages; safe to ask from several threads. `derived` is for what a page made of a version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._database = duckdb.connect(":memory:")
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[int, int]] = {}
        self._looked = 0.0
        self._version = 0
        self._scores: tuple[int, Scores, pa.Table] | None = None
        self.derived: tuple[int, object] | None = None
        self._load([])

    @property
    def version(self) -> int:
        """Grows when something changed."""
        return self._version

    def refresh(self, *, now: bool = False) -> None:
        """Read again what changed; looks at most once a second unless `now`."""
        with self._lock:
            if not now and time.monotonic() - self._looked < _LOOK_EVERY_S:
                return
            found = _parts(self.folder)
            changed = [name for name, stamp in found.items() if self._seen.get(name) != stamp]
            gone = [name for name in self._seen if name not in found]
            if changed or gone:
                self._forget([*changed, *gone])
                self._load(changed)
                self._version += 1
            self._seen, self._looked = found, time.monotonic()

    def find(self, query: ClipQuery) -> Found:
        """One page of a query."""
        where, values = query.where()
        counted = self._rows(
            "SELECT count(*) AS clips, count(*) FILTER (kept) AS kept, "
            f"coalesce(sum(duration_s), 0) / 3600 AS hours FROM clips WHERE {where}",
            values,
        )[0]
        # Only the columns of the order are sorted; whole rows are fetched for the page alone.
        page = (
            f"SELECT rowid FROM clips WHERE {where} ORDER BY {query.order()} "
            f"LIMIT {PAGE_SIZE} OFFSET {PAGE_SIZE * (query.page - 1)}"
        )
        rows = self._rows(f"SELECT * FROM clips WHERE rowid IN ({page}) ORDER BY {query.order()}", values)
        return Found(rows, **counted)

    def clip(self, clip_id: str) -> Row | None:
        """One clip."""
        return next(iter(self._rows("SELECT * FROM clips WHERE clip_id = ?", [clip_id])), None)

    def clips(self, ids: list[str]) -> list[Row]:
        """These clips, in this order."""
        rows = self._rows("SELECT * FROM clips WHERE list_contains(?, clip_id)", [ids])
        found = {row["clip_id"]: row for row in rows}
        return [found[clip_id] for clip_id in ids if clip_id in found]

    def of_source(self, source_id: str) -> list[Row]:
        """All clips of a source, in order."""
        return self._rows("SELECT * FROM clips WHERE source_id = ? ORDER BY start_s, clip_id", [source_id])

    def near_duplicates(self, row: Row, most: int = 24) -> list[Row]:
        """Clips that show the same: the one that this repeats, and all that repeat it."""
        original = row["near_duplicate_of"] or row["clip_id"]
        return self._rows(
            "SELECT * FROM clips WHERE (clip_id = ? OR near_duplicate_of = ?) AND clip_id != ? "
            f"ORDER BY near_duplicate_of NULLS FIRST, clip_id LIMIT {most}",
            [original, original, row["clip_id"]],
        )

    def standing(self, column: str, value: float) -> float:
        """The share of all measured clips that have less."""
        row = self._rows(f"SELECT avg(CAST({column} < ? AS INT)) AS share FROM clips", [value])[0]
        return float(row["share"] or 0.0)

    def full(self, row: Row) -> Clip:
        """The clip as the manifest has it, with every column."""
        return next(clip for clip in read_part(Path(row["part"])) if clip.clip_id == row["clip_id"])

    def source_folders(self) -> list[Path]:
        """Where the footage lies, as far as it is files."""
        rows = self._rows(
            "SELECT DISTINCT regexp_replace(source_path, '[^/]*$', '') AS folder FROM clips", []
        )
        return [self.folder / row["folder"] for row in rows if "://" not in row["folder"]]

    def scores(self) -> tuple[Scores, pa.Table]:
        """What filters look at, and beside it clip_id, duration_s and kept; kept until something changes."""
        with self._lock:
            if self._scores is None or self._scores[0] != self._version:
                names = dict.fromkeys([*SCORE_COLUMNS, "clip_id", "kept"])
                columns = self._database.cursor().sql(f"SELECT {', '.join(names)} FROM clips")
                table = columns.to_arrow_table()
                self._scores = (self._version, scores_in(table), table)
            return self._scores[1], self._scores[2]

    def kept(self) -> Bool[np.ndarray, " n"]:
        """Which clips are kept, in the order of `scores`."""
        return np.asarray(self.scores()[1]["kept"].to_numpy(zero_copy_only=False), bool)

    def _rows(self, sql: str, values: list[Any]) -> list[Row]:
        cursor = self._database.cursor().execute(sql, values)
        names = [item[0] for item in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def _forget(self, parts: list[str]) -> None:
        self._database.execute("DELETE FROM clips WHERE list_contains(?, part)", [parts])

    def _load(self, parts: list[str]) -> None:
        if parts:
            incoming = pads.dataset(parts, schema=_STORED, format="parquet").to_table(
                columns=[*_STORED.names, "__filename"]
            )
        else:
            incoming = _STORED.append(pa.field("__filename", pa.string())).empty_table()
        cursor = self._database.cursor()
        cursor.register("incoming", incoming)
        begin = "INSERT INTO clips" if self._version or self._seen or parts else "CREATE TABLE clips AS"
        cursor.execute(f"{begin} {_COLUMNS}")
        cursor.unregister("incoming")


def _parts(folder: Path) -> dict[str, tuple[int, int]]:
    clips = folder / "clips"
    if not clips.is_dir():
        return {}
    with os.scandir(clips) as entries:
        stats = [
            (entry.path, entry.stat())
            for entry in entries
            if entry.name.startswith("part-") and entry.name.endswith(".parquet")
        ]
    return {path: (facts.st_mtime_ns, facts.st_size) for path, facts in sorted(stats)}
