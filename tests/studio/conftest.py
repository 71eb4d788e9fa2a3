"""A studio over small folders, asked without a browser."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.testclient import TestClient

from kinema.files import write_text
from kinema.manifest import Caption, Clip, write_clips
from kinema.studio.app import create_app
from kinema.studio.clip_index import ClipIndex
from kinema.studio.config import Limits, StudioConfig

ADDRESS = "http://127.0.0.1:8600"
Opener = Callable[..., TestClient]
CLIP = Clip(
    clip_id="",
    source_id="s",
    source_path="/footage/street.mp4",
    start_frame=0,
    end_frame=24,
    start_s=0.0,
    end_s=1.0,
    cut_kind_start="start",
    cut_kind_end="hard",
    frames=24,
    fps=24.0,
    width=160,
    height=90,
    aspect_ratio=0.5625,
    duration_s=1.0,
)


@pytest.fixture
def hundred(tmp_path: Path) -> Path:
    """A hundred clips of two sources; every third is dropped, every other has no motion score."""
    write_text(tmp_path / "dataset.toml", "")
    for source in ("a", "b"):
        rows = [
            replace(
                CLIP,
                clip_id=f"{source}{number:03d}",
                source_id=source,
                source_path=f"/footage/{source}.mp4",
                start_s=float(number),
                start_frame=24 * number,
                motion_score=number / 10 if number % 2 else None,
                kept=number % 3 > 0,
                captions=(Caption(text=f"A Dog number {number}", kind="human"),),
                near_duplicate_of="a000" if number == 7 else None,
            )
            for number in range(50)
        ]
        write_clips(tmp_path, source, rows)
    return tmp_path


@pytest.fixture
def index(hundred: Path) -> ClipIndex:
    found = ClipIndex(hundred)
    found.refresh()
    return found


@pytest.fixture
def copied(dataset: Path, tmp_path: Path) -> Path:
    """The dataset of two squares, free to be changed."""
    shutil.copytree(dataset, tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Opener]:
    """Opens folders; the client is let in when no token is asked for."""
    clients = []

    def opened(*folders: Path, token: str | None = None, limits: Limits | None = None) -> TestClient:
        config = StudioConfig(
            out=tmp_path / "made", cache=tmp_path / "cache", token=token, limits=limits or Limits()
        )
        client = TestClient(create_app(config, folders), base_url=ADDRESS)
        client.__enter__()
        clients.append(client)
        if token is None:
            client.get("/enter")
        return client

    yield opened
    for client in clients:
        client.__exit__(None, None, None)


def form_token(client: TestClient) -> str:
    """What the pages of this client's session send with their forms."""
    page = client.get("/keys").text
    return page.partition('data-token="')[2].partition('"')[0]


def place_id(client: TestClient, kind: str) -> str:
    """The only open folder of a kind."""
    (place,) = client.app.state.studio.places.all(kind)  # type: ignore[attr-defined]
    return place.id


def concrete(path: str) -> str:
    """A route's path with something in its places."""
    return (
        path.replace("{place_id}", "0" * 10)
        .replace("{clip_id}", "0" * 16)
        .replace("{name}", "a.mp4")
        .replace("{link_id}", "0")
        .replace("{token}", "0")
    )


def routes(client) -> list[tuple[str, str]]:
    found = []
    stack = list(client.app.routes)
    while stack:
        route = stack.pop()
        stack += list(getattr(getattr(route, "original_router", None), "routes", []))
        if isinstance(route, APIRoute):
            found += [(method, route.path) for method in sorted(route.methods)]
    return found
