"""Clips packed in tar files of WebDataset's layout: clip_id.mp4 and clip_id.json side by side, in order.

A clip is read by its offset and size alone; the tar's own headers serve other readers and a run that goes on.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from kinema.errors import DatasetError
from kinema.files import atomic_path


@dataclass(frozen=True)
class Member:
    """What a shard holds for one clip: where its pixels lie, and its JSON."""

    clip_id: str
    name: str
    offset: int
    size: int
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Packable:
    """A clip that is ready to be packed: the file with its pixels, and its JSON."""

    clip_id: str
    pixels: Path
    facts: Mapping[str, Any]


def write_shard(target: Path, clips: Iterable[Packable]) -> None:
    """Write one tar atomically; the same clips give the same bytes."""
    with atomic_path(target) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for clip in clips:
            member = tarfile.TarInfo(f"{clip.clip_id}{clip.pixels.suffix}")
            member.size = clip.pixels.stat().st_size
            with clip.pixels.open("rb") as file:
                tar.addfile(member, file)
            content = json.dumps(clip.facts, ensure_ascii=False, sort_keys=True).encode()
            member = tarfile.TarInfo(f"{clip.clip_id}.json")
            member.size = len(content)
            tar.addfile(member, BytesIO(content))


def read_shard(path: Path, suffixes: Iterable[str] = (".mp4", ".jpg")) -> Iterator[Member]:
    """The clips of a shard, with the place of their pixels; members with other suffixes are text or nothing.

    Raises `DatasetError` for what is no tar file.
    """
    wanted = set(suffixes)
    try:
        with tarfile.open(path, "r:") as tar:
            groups: dict[str, dict[str, tarfile.TarInfo]] = {}
            for member in tar:
                if member.isfile():
                    stem, _, rest = member.name.partition(".")
                    groups.setdefault(stem, {})[f".{rest}"] = member
            for stem, group in groups.items():
                pixels = next((group[suffix] for suffix in group if suffix.lower() in wanted), None)
                if pixels is not None:
                    yield Member(stem, pixels.name, pixels.offset_data, pixels.size, _facts(tar, group))
    except (tarfile.TarError, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as a tar shard: {error}") from error


def _facts(tar: tarfile.TarFile, group: Mapping[str, tarfile.TarInfo]) -> Mapping[str, Any]:
    facts: dict[str, Any] = {}
    if (member := group.get(".txt")) and (file := tar.extractfile(member)):
        facts["text"] = file.read().decode("utf-8", "replace").strip()
    if (member := group.get(".json")) and (file := tar.extractfile(member)):
        try:
            content = json.loads(file.read())
        except ValueError as error:
            raise DatasetError(f"{tar.name!s}: {member.name} is not valid JSON") from error
        facts |= content if isinstance(content, dict) else {}
    return facts
