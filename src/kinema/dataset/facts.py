"""A clip's row as JSON beside its pixels: a file that travels alone still tells where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from kinema.manifest import Caption, Clip

NOWHERE: dict[str, Any] = dict.fromkeys(
    item.name for item in fields(Clip) if item.name in {"shard", "offset", "size"} or "stored_" in item.name
)
"""The columns that say where pixels are stored, for a clip that is a span of its source."""


def clip_facts(clip: Clip) -> dict[str, Any]:
    """The row without its place; `text` is its first caption."""
    row = {name: value for name, value in asdict(clip).items() if name not in NOWHERE}
    return row | {"text": clip.captions[0].text if clip.captions else ""}


def clip_of(facts: Mapping[str, Any]) -> Clip | None:
    """The row that `clip_facts` told; None for facts of another origin."""
    names = {item.name for item in fields(Clip)}
    row = {name: value for name, value in facts.items() if name in names}
    captions = tuple(Caption(**caption) for caption in row.pop("captions", None) or ())
    reasons = tuple(row.pop("drop_reasons", None) or ())
    try:
        return Clip(**row | {"captions": captions, "drop_reasons": reasons})
    except TypeError:  # columns that every row has are missing
        return None
