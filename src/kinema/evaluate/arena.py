"""An arena folder: which videos of which models are compared on which prompts, and the votes on them.

    arena/
      arena.json      title, axes, groups, and a row per video: video_id, model, prompt, file, sha256
      votes.jsonl     the vote store

`file` is relative to the folder (it may lead out of it, to a run's own samples) or absolute. Two videos can
be compared when they have one prompt and different models, and, where there are groups, one has both models.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from kinema.checkpoint import from_record, read_json, write_json
from kinema.errors import CheckpointError
from kinema.evaluate.vbench import prompted_videos
from kinema.evaluate.votes import AXES, VoteError, VoteStore
from kinema.files import writable_folder

ARENA, VOTES = "arena.json", "votes.jsonl"


@dataclass(frozen=True, kw_only=True)
class ArenaVideo:
    """`video_id` is unique in its arena and tells a voter nothing; `file` is as in arena.json."""

    video_id: str
    model: str
    prompt: str
    file: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """Two videos of one prompt, by different models; which is shown first is for the asker to draw."""

    prompt: str
    first: ArenaVideo
    second: ArenaVideo


@dataclass(frozen=True, kw_only=True)
class Arena:
    """What `arena.json` says, and where it lies. `groups` of models are compared inside only; none: all."""

    folder: Path
    title: str
    axes: tuple[str, ...]
    videos: tuple[ArenaVideo, ...]
    groups: tuple[tuple[str, ...], ...] = ()

    @property
    def models(self) -> tuple[str, ...]:
        """In order of name."""
        return tuple(sorted({video.model for video in self.videos}))

    @property
    def prompts(self) -> tuple[str, ...]:
        """In the order of the videos."""
        return tuple(dict.fromkeys(video.prompt for video in self.videos))

    @property
    def votes(self) -> VoteStore:
        """Where the answers are kept."""
        return VoteStore(self.folder / VOTES)

    def path(self, video: ArenaVideo) -> Path:
        """The file of a video."""
        return self.folder / video.file

    def questions(self) -> list[Question]:
        """Every comparison there is, by prompt and then by models in order of name."""
        asked = {
            frozenset(pair) for group in self.groups or (self.models,) for pair in combinations(group, 2)
        }
        found = []
        for prompt in self.prompts:
            shown = sorted((video for video in self.videos if video.prompt == prompt), key=_by_model)
            found += [
                Question(prompt=prompt, first=first, second=second)
                for first, second in combinations(shown, 2)
                if frozenset((first.model, second.model)) in asked
            ]
        return found


def _by_model(video: ArenaVideo) -> tuple[str, str]:
    return video.model, video.video_id


def create_arena(
    folder: Path,
    title: str,
    samples: Mapping[str, Path],
    axes: Sequence[str] = AXES,
    groups: Sequence[Sequence[str]] = (),
) -> Arena:
    """Write `arena.json` for folders of videos by model; each video's sidecar states its prompt.

    Videos stay where they are; votes that are there already stay too. Raises `VoteError` when nothing can be
    compared.
    """
    if len(samples) < 2:
        raise VoteError(f"an arena compares two models or more, got {', '.join(samples) or 'none'}")
    writable_folder(folder)
    videos = tuple(
        _video(folder, model, found.path, found.prompt)
        for model, place in samples.items()
        for found in prompted_videos(place)
    )
    inside = tuple(tuple(group) for group in groups)
    arena = Arena(folder=folder, title=title, axes=tuple(axes), videos=videos, groups=inside)
    if not arena.questions():
        raise VoteError(
            f"{folder}: no prompt has videos of two models; make videos of the same prompts with each model"
        )
    record = {
        "title": title,
        "axes": list(axes),
        "groups": [list(group) for group in inside],
        "videos": [asdict(video) for video in videos],
    }
    write_json(folder / ARENA, record)
    return arena


def _video(folder: Path, model: str, path: Path, prompt: str) -> ArenaVideo:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    told = hashlib.sha256(f"{model}\n{prompt}\n{path.name}\n{sha256}".encode()).hexdigest()
    return ArenaVideo(
        video_id=told[:16],
        model=model,
        prompt=prompt,
        file=os.path.relpath(path.resolve(), folder.resolve()),
        sha256=sha256,
    )


def read_arena(folder: Path) -> Arena:
    """The arena of a folder. Raises `VoteError` naming what is wrong with it."""
    path = folder / ARENA
    if not path.is_file():
        raise VoteError(f"{folder} is no arena (no {ARENA}); make one with kinema arena create")
    try:
        record = read_json(path)
        videos = tuple(from_record(ArenaVideo, row, str(path)) for row in _rows(record))
    except CheckpointError as error:
        raise VoteError(f"{error}; write it again with kinema arena create") from error
    return Arena(
        folder=folder,
        title=str(record.get("title", folder.name)),
        axes=tuple(str(axis) for axis in record.get("axes") or AXES),
        videos=videos,
        groups=tuple(tuple(map(str, group)) for group in record.get("groups") or ()),
    )


def _rows(record: dict[str, Any]) -> list[dict[str, Any]]:
    rows = record.get("videos")
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CheckpointError(f"{ARENA}: videos should be a list of tables")
    return rows
