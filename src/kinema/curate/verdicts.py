"""What people said of single clips: kept or dropped by hand, whatever the filters say.

`verdicts.jsonl` in the dataset folder has a line a verdict and is only ever added to; the last one on a clip
holds. It outlives filtering and curating again, because a clip's id is that of its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinema.errors import DatasetError
from kinema.files import append_line, read_rows

VERDICTS = "verdicts.jsonl"
BY_HAND = "by hand"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """`kept` None takes an earlier verdict back: the filters decide again."""

    clip_id: str
    kept: bool | None
    reason: str = ""
    made_at: str = ""

    @property
    def drop_reason(self) -> str:
        """As it stands in the clip's row."""
        return f"{BY_HAND}: {self.reason}" if self.reason else BY_HAND


def add_verdict(folder: Path, verdict: Verdict) -> None:
    """Add a line."""
    append_line(folder / VERDICTS, json.dumps(asdict(verdict), ensure_ascii=False))


def read_verdicts(folder: Path) -> dict[str, Verdict]:
    """The verdict that holds on each clip that has one."""
    path = folder / VERDICTS
    found: dict[str, Verdict] = {}
    for row in read_rows(path):
        verdict = _verdict(path, row)
        found[verdict.clip_id] = verdict
    return {clip_id: verdict for clip_id, verdict in found.items() if verdict.kept is not None}


def _verdict(path: Path, row: dict[str, Any]) -> Verdict:
    try:
        return Verdict(**row)
    except TypeError as error:
        raise DatasetError(f"{path}: {error}; correct or delete the line {json.dumps(row)[:80]}") from error


def judged(
    why: Sequence[tuple[str, ...]], clip_ids: Iterable[Any], verdicts: Mapping[str, Verdict]
) -> tuple[list[tuple[str, ...]], int]:
    """The reasons with those given by hand, and how many clips are dropped by hand. None for a kept one."""
    if not verdicts:
        return list(why), 0
    by_hand = [verdicts.get(str(clip_id)) for clip_id in clip_ids]
    found = [
        reasons if verdict is None else with_verdict(reasons, verdict)
        for reasons, verdict in zip(why, by_hand, strict=True)
    ]
    return found, sum(verdict is not None and not verdict.kept for verdict in by_hand)


def with_verdict(reasons: tuple[str, ...], verdict: Verdict) -> tuple[str, ...]:
    """The reasons of one clip that a person has judged."""
    return () if verdict.kept else (*reasons, verdict.drop_reason)
