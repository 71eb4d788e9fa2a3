"""The clips of a dataset folder that training may use, and where their pixels are."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from kinema.errors import DatasetError
from kinema.manifest import Clip, read_clips


def kept_clips(dataset: Path) -> list[Clip]:
    """Clips that curation kept, in the manifest's order. Raises `DatasetError` when there are none."""
    clips = read_clips(dataset)
    kept = [clip for clip in clips if clip.kept]
    if not kept:
        raise DatasetError(
            f"{dataset} holds no kept clip ({len(clips)} dropped); see its drop reasons, loosen the filters "
            "and run kinema curate again, or add footage"
        )
    return kept


def source_file(dataset: Path, clip: Clip) -> Path:
    """The clip's source; a relative path in the manifest is relative to the dataset folder."""
    return dataset / clip.source_path


def dataset_version(clips: list[Clip]) -> str:
    """Changes when a clip, its span or its captions change: together with the config it fixes every batch."""
    digest = sha256()
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        digest.update(repr((clip.clip_id, clip.captions)).encode())
    return digest.hexdigest()[:16]
