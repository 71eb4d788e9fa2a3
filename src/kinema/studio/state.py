"""Everything that the pages share: the open folders, and what is kept in memory about them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from fastapi import HTTPException, Request

from kinema.errors import ConfigError
from kinema.files import writable_folder
from kinema.studio.clip_index import ClipIndex
from kinema.studio.config import StudioConfig
from kinema.studio.media import Media
from kinema.studio.places import Kind, Place, Places
from kinema.studio.sessions import Keeper, Session, check_form

TITLES: dict[Kind, str] = {"dataset": "dataset", "run": "run", "arena": "arena"}


class Studio:
    """One running studio."""

    def __init__(self, config: StudioConfig, folders: Sequence[Path]) -> None:
        self.config = config
        self.places = Places(folders)
        self.out = writable_folder(config.out).resolve()
        self.keeper = Keeper(self.out / ".key", config.token)
        self.media = Media(config.cache, config.limits)
        self._indexes: dict[str, ClipIndex] = {}
        self._lock = threading.Lock()
        for place in self.places.all("dataset"):
            self._keep_apart(self.index(place))

    def index(self, place: Place) -> ClipIndex:
        """The clip table of a dataset, as it is now."""
        with self._lock:
            if place.id not in self._indexes:
                self._indexes[place.id] = ClipIndex(place.folder)
        self._indexes[place.id].refresh()
        return self._indexes[place.id]

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
