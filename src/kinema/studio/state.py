"""Everything that the pages share: the open folders, and what is kept in memory about them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
from fastapi import HTTPException, Request

from kinema.errors import ConfigError
from kinema.evaluate.arena import ARENA, read_arena
from kinema.evaluate.ballot import Ballot
from kinema.files import writable_folder
from kinema.studio.clip_index import ClipIndex
from kinema.studio.config import StudioConfig
from kinema.studio.jobs import Jobs, Maker
from kinema.studio.links import Links
from kinema.studio.media import Media
from kinema.studio.places import Kind, Place, Places
from kinema.studio.runs import Curves
from kinema.studio.sessions import Keeper, Session, check_form
from kinema.studio.uploads import Uploads

TITLES: dict[Kind, str] = {"dataset": "dataset", "run": "run", "arena": "arena"}


class Studio:
    """One running studio."""

    def __init__(self, config: StudioConfig, folders: Sequence[Path]) -> None:
        self.config = config
        self.places = Places(folders)
        self.out = config.out.resolve()
        self._lock = threading.Lock()
        self._indexes: dict[str, ClipIndex] = {}
        for place in self.places.all("dataset"):
            self._keep_apart(self.index(place))
        writable_folder(self.out)
        self.keeper = Keeper(self.out / ".key", config.token)
        self.media = Media(config.cache, config.limits)
        self.links = Links(self.out)
        self._ballots: dict[str, tuple[int, Ballot]] = {}
        self.jobs = Jobs(self.out / "jobs")
        self.maker = Maker(self.jobs)
        self.uploads = Uploads(self.out / "uploads", config.limits)
        self._curves: dict[str, Curves] = {}

    def begin(self) -> None:
        """Go on with what was not finished, and load beforehand what takes long to import."""
        self.maker.wake()
        threading.Thread(target=import_module, args=("kinema.studio.requests",), daemon=True).start()

    def index(self, place: Place) -> ClipIndex:
        """The clip table of a dataset, as it is now."""
        with self._lock:
            if place.id not in self._indexes:
                self._indexes[place.id] = ClipIndex(place.folder)
        self._indexes[place.id].refresh()
        return self._indexes[place.id]

    def curves(self, place: Place) -> Curves:
        """The numbers of a run, as they are now."""
        with self._lock:
            curves = self._curves.setdefault(place.id, Curves(place.folder))
        curves.refresh()
        return curves

    def ballot(self, place: Place) -> Ballot:
        """The questions of an arena; made again when `arena.json` is written again."""
        written = (place.folder / ARENA).stat().st_mtime_ns
        with self._lock:
            known = self._ballots.get(place.id)
            if known is None or known[0] != written:
                ballot = Ballot(read_arena(place.folder), np.random.default_rng())
                self._ballots[place.id] = known = (written, ballot)
            return known[1]

    def _keep_apart(self, index: ClipIndex) -> None:
        """Nothing is written where footage lies."""
        for folder in index.source_folders():
            for target in (self.out, self.config.cache.resolve()):
                if target.is_relative_to(folder.resolve()):
                    raise ConfigError(
                        f"{target} lies inside {folder}, where footage is; choose another folder with --out"
                    )

    def close(self) -> None:
        """End the processes that were started."""
        self.media.close()
        self.uploads.close()
        self.maker.close()


def studio_of(request: Request) -> Studio:
    """The studio of a request."""
    studio: Studio = request.app.state.studio
    return studio


def place_of(request: Request, place_id: str, kind: Kind) -> Place:
    """An open folder by its id, or 404."""
    place = studio_of(request).places.get(place_id, kind)
    if place is None:
        raise HTTPException(404, f"No such {TITLES[kind]} is open.")
    return place


async def require_owner(request: Request) -> Session:
    """The owner's session; any change has to come from one of our forms."""
    keeper = studio_of(request).keeper
    session = keeper.owner(request)
    if session is None:
        raise HTTPException(401, "Open the address that the studio printed when it started.")
    request.state.session = session
    if request.method not in ("GET", "HEAD"):
        await check_form(request, keeper, session)
    return session
