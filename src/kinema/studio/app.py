"""The application: pages behind hosts, sizes, rates and headers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlencode

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.staticfiles import StaticFiles

from kinema.errors import KinemaError
from kinema.studio import arena_pages, dataset_pages, entry, filter_pages, generate_pages, run_pages, voting
from kinema.studio.config import StudioConfig
from kinema.studio.pages import render
from kinema.studio.security import Headed, KnownHosts, Rated, SizedBodies
from kinema.studio.state import Studio


def create_app(config: StudioConfig, folders: Sequence[Path]) -> FastAPI:
    """The studio over these folders. Raises `KinemaError` for what cannot be opened."""
    studio = Studio(config, folders)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        studio.begin()
        yield
        studio.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.studio = studio
    for part in (entry, dataset_pages, filter_pages, arena_pages, run_pages, generate_pages, voting):
        app.include_router(part.router)
    app.mount("/static", _Assets(directory=str(files("kinema.studio").joinpath("static"))))
    app.add_exception_handler(StarletteHTTPException, _refused)
    app.add_exception_handler(KinemaError, _wrong)
    # The last one added is the first one asked.
    app.add_middleware(SizedBodies, limits=config.limits, upload_path=generate_pages.UPLOADS)
    app.add_middleware(Rated, limits=config.limits, entry_paths=("/enter", "/vote/enter"))
    app.add_middleware(KnownHosts, names=_names(config))
    app.add_middleware(Headed)
    return app


def _names(config: StudioConfig) -> list[str]:
    return ["localhost", "127.0.0.1", "::1", config.host.strip("[]")] if config.loopback else []


class _Assets(StaticFiles):
    """Scripts and styles carry their version in the address, so that they may be kept."""

    def file_response(self, *args: object, **kwargs: object) -> Response:
        response = super().file_response(*args, **kwargs)  # type: ignore[arg-type]
        response.headers["cache-control"] = "private, max-age=86400"
        return response


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)
    if error.status_code == 401 and request.method == "GET" and _lets_in(request):
        return RedirectResponse(f"/enter?{urlencode({'to': request.url.path})}", 303)
    return _told(request, error.status_code, str(error.detail))


def _lets_in(request: Request) -> bool:
    """A person whose first page is not the front door gets a cookie on the way, where none is asked for."""
    return request.app.state.studio.keeper.open and "text/html" in request.headers.get("accept", "")


async def _wrong(request: Request, error: Exception) -> Response:
    return _told(request, 400, str(error))


def _told(request: Request, status: int, words: str) -> Response:
    """A page for people, a fragment for htmx, a line for whatever else asks."""
    if request.headers.get("hx-request") == "true":
        return render(request, "_fault.html", status, words=words)
    if "text/html" in request.headers.get("accept", ""):
        return render(request, "fault.html", status, status_code=status, words=words)
    return PlainTextResponse(words, status)
