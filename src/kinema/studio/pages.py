"""Templates to answers: what every page is given, and how numbers are written."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse

from kinema import __version__
from kinema.page.charts import number
from kinema.studio.state import studio_of

_EDGES = {
    "start": "the file's first frame",
    "end": "the file's last frame",
    "hard": "a hard cut",
    "fade": "a fade",
    "dissolve": "a dissolve",
    "length": "a split of a long shot",
}


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kinema.studio"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": _number,
        "large": large,
        "edge": lambda kind: _EDGES.get(kind, kind),
        "part": part,
        "hours": hours,
        "clock": clock,
        "count": lambda value: f"{value:,}".replace(",", "\u202f"),
        "ago": ago,
    }
    environment.globals |= {"version": __version__, "assets": assets_version()}
    return environment


def render(request: Request, template: str, status: int = 200, **context: Any) -> HTMLResponse:  # noqa: ANN401 - whatever a template shows
    """An answer from a template."""
    studio = studio_of(request)
    session = getattr(request.state, "session", None)
    shared = {
        "places": studio.places,
        "path": request.url.path,
        "form_token": studio.keeper.form_token(session) if session else "",
        "partial": request.headers.get("hx-request") == "true",
    }
    return HTMLResponse(_environment().get_template(template).render(shared | context), status)


@cache
def assets_version() -> str:
    """Changes when a script or style does, so that browsers may keep them."""
    digest = hashlib.sha256()
    for path in sorted(files("kinema.studio").joinpath("static").iterdir(), key=lambda item: item.name):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:10]


def _number(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else number(value)


def large(value: float) -> str:
    """A number of any size; from a million on, three digits and a power of ten."""
    if abs(value) >= 1e6:
        return f"{value:.2e}".replace("e+0", "e").replace("e+", "e")
    return str(value) if isinstance(value, int) else number(value)


def part(crop: str) -> str:
    """A rectangle `left,top,right,bottom` in shares of the picture."""
    left, top, right, bottom = (round(100 * float(share)) for share in crop.split(","))
    return f"{left} to {right} % across, {top} to {bottom} % down"


def hours(value: float) -> str:
    """Hours as people say them."""
    if value < 1 / 60:
        return f"{value * 3600:.0f} s"
    return f"{value * 60:.0f} min" if value < 2 else f"{value:.1f} h"


def clock(seconds: float) -> str:
    """m:ss.d, or h:mm:ss from an hour on."""
    minutes, rest = divmod(seconds, 60)
    if minutes >= 60:
        return f"{minutes // 60:.0f}:{minutes % 60:02.0f}:{rest:02.0f}"
    return f"{minutes:.0f}:{rest:04.1f}"


def ago(moment: float) -> str:
    """How long ago a time (seconds since 1970) was."""
    seconds = max(0.0, datetime.now(UTC).timestamp() - moment)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
