"""A dataset folder of some of another one's clips, which refers to the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kinema.files import write_text
from kinema.location import is_url
from kinema.manifest import Clip, write_clips


def write_view(dataset: Path, folder: Path, clips: Sequence[Clip], *, turn_portrait: bool = False) -> None:
    """A dataset folder with these clips, kept, whose pixels stay where they are; the dataset is not
    touched. With `turn_portrait` clips that stand are turned by a quarter and lie."""
    clips = [lying(clip) for clip in clips] if turn_portrait else clips
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


def lying(clip: Clip) -> Clip:
    """A clip that is higher than wide, turned by a quarter; any other as it is."""
    if clip.height <= clip.width:
        return clip
    return replace(
        clip,
        turned=not clip.turned,
        height=clip.width,
        width=clip.height,
        aspect_ratio=clip.width / clip.height,
    )


def _absolute(dataset: Path, name: str) -> str:
    return name if is_url(name) else str((dataset / name).resolve())
