"""The folders that are open, each by an id: what the browser names is looked up here, never opened."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinema.errors import DatasetError
from kinema.location import embedded_model

Kind = Literal["dataset", "run", "arena"]

_MARKS: dict[Kind, tuple[str, ...]] = {
    "dataset": ("dataset.toml",),
    "arena": ("arena.json",),
    "run": ("resolved.toml", "metrics.jsonl", "heartbeat.json", "model.toml"),
}
_DEPTH = 3  # an ablation's folder holds arms/NAME/run


@dataclass(frozen=True)
class Place:
    """An open folder."""

    id: str
    kind: Kind
    folder: Path
    name: str

    @property
    def is_model(self) -> bool:
        """Whether videos can be made with it."""
        return (self.folder / "model.toml").is_file()


class Places:
    """Everything that is open. Raises `DatasetError` for a folder in which there is nothing to show."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = [folder.resolve() for folder in folders]
        self._known: dict[str, Place] = {}
        for folder in self._folders:
            if not folder.is_dir():
                raise DatasetError(f"{folder} is not a folder; name a dataset, a run, or a folder of them")
        self.look_again()
        for folder in self._folders:
            if not any(place.folder.is_relative_to(folder) for place in self.all()):
                raise DatasetError(
                    f"{folder} holds no dataset, run, model or arena; make one with: "
                    f"kinema curate FOOTAGE --out {folder}"
                )

    def look_again(self) -> None:
        """Find what has come since, such as the next run of an ablation."""
        for folder in self._folders:
            for found, kind in _places_in(folder, _DEPTH):
                place_id = hashlib.sha256(str(found).encode()).hexdigest()[:10]
                name = found.name if found == folder else f"{folder.name}/{found.relative_to(folder)}"
                self._known.setdefault(place_id, Place(place_id, kind, found, name))

    def all(self, kind: Kind | None = None) -> list[Place]:
        """In the order in which they were named."""
        return [place for place in self._known.values() if kind in (None, place.kind)]

    def models(self) -> list[Place]:
        """What videos can be made with; the one that comes with kinema is always there, last."""
        return [place for place in self._known.values() if place.is_model] + [_embedded()]

    def add(self, folder: Path) -> Place:
        """Open one more folder, made while the studio runs."""
        self._folders.append(folder.resolve())
        self.look_again()
        return next(place for place in self.all() if place.folder == folder.resolve())

    def get(self, place_id: str, kind: Kind | None = None) -> Place | None:
        """The folder of an id, if it is of that kind."""
        place = self._known.get(place_id)
        return place if place is not None and kind in (None, place.kind) else None


def _embedded() -> Place:
    return Place("embedded", "run", embedded_model(), "kinema's own: a small world of moving shapes")


def _places_in(folder: Path, depth: int) -> list[tuple[Path, Kind]]:
    if (kind := kind_of(folder)) is not None:
        return [(folder, kind)]
    if not depth:
        return []
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [item for path in inside for item in _places_in(path, depth - 1)]


def kind_of(folder: Path) -> Kind | None:
    """What a folder is by the files in it."""
    for kind, marks in _MARKS.items():
        if any((folder / mark).is_file() for mark in marks):
            return kind
    return None
