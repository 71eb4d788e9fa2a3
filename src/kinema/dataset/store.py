"""The clips of a dataset folder that training may use, and where their pixels are."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from kinema.errors import DatasetError
from kinema.location import Located, PackedFile, is_url, located
from kinema.manifest import Clip, read_clips


def kept_clips(dataset: Path) -> list[Clip]:
    """Clips that curation kept, in the manifest's order, as they are stored. Raises `DatasetError` when
    there are none."""
    clips = read_clips(dataset)
    kept = [clip for clip in clips if clip.kept]
    if not kept:
        raise DatasetError(
            f"{dataset} holds no kept clip ({len(clips)} dropped); see its drop reasons, loosen the filters "
            "and run kinema curate again, or add footage"
        )
    return [as_stored(clip) for clip in kept]


def as_stored(clip: Clip) -> Clip:
    """The clip as its own file holds it: the span, size and frames of what is stored, from time 0 on."""
    if clip.shard is None or clip.stored_frames is None:
        return clip
    height, width = clip.stored_height or clip.height, clip.stored_width or clip.width
    if clip.turned and clip.stored_height and clip.stored_width:
        height, width = width, height
    duration_s = (clip.stored_end_s or 0.0) - (clip.stored_start_s or 0.0) if clip.duration_s else 0.0
    return replace(
        clip,
        start_s=0.0,
        end_s=duration_s,
        duration_s=duration_s,
        start_frame=0,
        end_frame=clip.stored_frames,
        frames=clip.stored_frames,
        fps=clip.stored_frames / duration_s if duration_s else 0.0,
        height=height,
        width=width,
        aspect_ratio=height / width,
    )


def source_file(dataset: Path, clip: Clip) -> Located:
    """What holds the clip's pixels: its source, or its own file or place in a shard when it was stored.

    A relative path in the manifest is relative to the dataset folder.
    """
    name = clip.shard or clip.source_path
    path = located(name) if is_url(name) else dataset / name
    if clip.shard is None or clip.offset is None or clip.size is None:
        return path
    return PackedFile(path, clip.offset, clip.size)


def dataset_version(clips: list[Clip]) -> str:
    """Changes when a clip, its span or its captions change: together with the config it fixes every batch."""
    digest = sha256()
    for clip in sorted(clips, key=lambda clip: clip.clip_id):
        stored = (clip.shard, clip.offset, clip.size) if clip.shard else ()
        digest.update(repr((clip.clip_id, clip.captions, *stored)).encode())
    return digest.hexdigest()[:16]
