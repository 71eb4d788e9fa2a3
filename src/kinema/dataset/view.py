"""A dataset folder of some of another one's clips, which refers to the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kinema.files import write_text
from kinema.location import is_url
from kinema.manifest import Clip, write_clips


def write_view(dataset: Path, folder: Path, clips: Sequence[Clip]) -> None:
    """A dataset folder with these clips, kept, whose pixels stay where they are; the dataset is not
    touched."""
    here = [
        replace(
            clip,
            source_path=_absolute(dataset, clip.source_path),
            shard=None if clip.shard is None else _absolute(dataset, clip.shard),
            kept=True,
            drop_reasons=(),
        )
        for clip in clips
    ]
    write_clips(folder, "0", here)
    write_text(
        folder / "dataset.toml", "# A view of another dataset that kinema made; remove it with its folder.\n"
    )


def _absolute(dataset: Path, name: str) -> str:
    return name if is_url(name) else str((dataset / name).resolve())
