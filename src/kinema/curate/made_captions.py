"""Captions that models made: a ledger of its own, so that no clip is asked about twice.

Every part is renamed into place; of rows for one clip, kind and model, the one in the latest part holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kinema.files import atomic_path
from kinema.manifest import Caption, Clip, read_clips, write_clips

_SCHEMA = pa.schema([(name, pa.string()) for name in ("clip_id", "kind", "model", "key", "text")])


@dataclass(frozen=True, kw_only=True)
class MadeCaption:
    """What a model said of a clip; `key` names the way of asking (prompt, frames, size)."""

    clip_id: str
    kind: str
    model: str
    key: str
    text: str


class MadeCaptions:
    """The made captions of a dataset folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "captions"
        parts = sorted(self._folder.glob("part-*.parquet"))
        self._next = int(parts[-1].stem.removeprefix("part-")) + 1 if parts else 0
        self._latest: dict[str, dict[tuple[str, str], MadeCaption]] = {}
        self._every: dict[str, set[Caption]] = {}
        for part in parts:
            self._keep(MadeCaption(**row) for row in pq.read_table(part).to_pylist())

    def write(self, rows: Sequence[MadeCaption]) -> None:
        """Add a part."""
        if not rows:
            return
        with atomic_path(self._folder / f"part-{self._next:06d}.parquet") as temporary:
            pq.write_table(pa.Table.from_pylist([asdict(row) for row in rows], _SCHEMA), temporary)
        self._next += 1
        self._keep(rows)

    def text(self, clip_id: str, kind: str, model: str, key: str) -> str | None:
        """What is known already, if it was asked in this way."""
        found = self._latest.get(clip_id, {}).get((kind, model))
        return found.text if found is not None and found.key == key else None

    def added_to(self, clip: Clip, given: Iterable[Caption]) -> Clip:
        """The clip with the captions that came with the footage and those that were made of it. The words of
        the file name go once a model has seen the clip."""
        made = self._latest.get(clip.clip_id, {})
        rows = [Caption(text=row.text, kind=row.kind, model=row.model) for _, row in sorted(made.items())]
        outdated = self._every.get(clip.clip_id, set())
        seen = any(row.kind != "measured" for row in made.values())
        base = [item for item in given if item not in outdated and not (seen and item.kind == "filename")]
        return replace(clip, captions=(*base, *rows))

    def apply(self, folder: Path) -> None:
        """Bring the clip table up to date; parts in which nothing changes are not touched."""
        by_source: dict[str, list[Clip]] = {}
        for clip in read_clips(folder):
            by_source.setdefault(clip.source_id, []).append(clip)
        for source, clips in by_source.items():
            current = [self.added_to(clip, clip.captions) for clip in clips]
            if current != clips:
                write_clips(folder, source, current)

    def _keep(self, rows: Iterable[MadeCaption]) -> None:
        for row in rows:
            self._latest.setdefault(row.clip_id, {})[row.kind, row.model] = row
            caption = Caption(text=row.text, kind=row.kind, model=row.model)
            self._every.setdefault(row.clip_id, set()).add(caption)
