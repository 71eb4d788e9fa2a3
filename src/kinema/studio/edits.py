"""Changes to a dataset by hand: a caption, a verdict. Each goes to a ledger, and the clip's row follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from kinema.curate.filters import checks
from kinema.curate.made_captions import MadeCaption, MadeCaptions
from kinema.curate.refilter import filters_of
from kinema.curate.verdicts import Verdict, add_verdict, read_verdicts, with_verdict
from kinema.errors import DatasetError
from kinema.files import locked
from kinema.manifest import Clip, read_part, write_clips
from kinema.studio.clip_index import ClipIndex, Row

HUMAN = "human"
MOST_CHARACTERS = 4000


def write_caption(index: ClipIndex, row: Row, text: str) -> None:
    """Keep a person's caption beside the others; the next one of its kind takes its place in the row."""
    text = " ".join(text.split())
    if not text or len(text) > MOST_CHARACTERS:
        raise DatasetError(f"a caption has 1 to {MOST_CHARACTERS} characters, this one has {len(text)}")
    with locked(index.folder):
        made = MadeCaptions(index.folder)
        clip_id = str(row["clip_id"])
        made.write([MadeCaption(clip_id=clip_id, kind=HUMAN, model="", key="studio", text=text)])
        _rewrite(Path(row["part"]), clip_id, lambda clip: made.added_to(clip, clip.captions))
    index.refresh(now=True)


def give_verdict(index: ClipIndex, row: Row, kept: bool | None, reason: str) -> None:
    """Keep or drop a clip whatever the filters say; None leaves it to them again."""
    verdict = Verdict(
        clip_id=str(row["clip_id"]),
        kept=kept,
        reason=" ".join(reason.split())[:200],
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    by_filters = _reasons(index, verdict.clip_id)
    why = by_filters if kept is None else with_verdict(by_filters, verdict)
    with locked(index.folder):
        add_verdict(index.folder, verdict)
        _rewrite(
            Path(row["part"]), verdict.clip_id, lambda clip: replace(clip, kept=not why, drop_reasons=why)
        )
    index.refresh(now=True)


def verdict_of(index: ClipIndex, clip_id: str) -> Verdict | None:
    """What a person said of the clip, if anything."""
    return read_verdicts(index.folder).get(clip_id)


def _reasons(index: ClipIndex, clip_id: str) -> tuple[str, ...]:
    """Why the folder's filters drop a clip."""
    scores, table = index.scores()
    place = int(np.flatnonzero(table["clip_id"].to_numpy(zero_copy_only=False) == clip_id)[0])
    return tuple(
        check.reason for check in checks(scores, filters_of(index.folder)) if bool(check.broken[place])
    )


def _rewrite(part: Path, clip_id: str, change: Callable[[Clip], Clip]) -> None:
    rows = [change(clip) if clip.clip_id == clip_id else clip for clip in read_part(part)]
    write_clips(part.parent.parent, part.stem.removeprefix("part-"), rows)
