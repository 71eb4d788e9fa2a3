"""The pages of training runs: one, and several beside each other."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse, Response

from kinema.runlog import SHEET
from kinema.studio.pages import render
from kinema.studio.places import Place
from kinema.studio.runs import (
    differences,
    log_tails,
    plan_tables,
    previews,
    settings,
    spread,
    vitals,
)
from kinema.studio.state import place_of, require_owner, studio_of

router = APIRouter(prefix="/runs", dependencies=[Depends(require_owner)])

MOST_COMPARED = 8
_ORDER = ("loss", "loss_", "lr", "grad_norm", "step_s", "data_s")


@router.get("")
def runs(request: Request) -> Response:
    """All runs, and the curves, settings and last previews of those that are chosen."""
    studio = studio_of(request)
    studio.places.look_again()
    all_runs = studio.places.all("run")
    asked = request.query_params.getlist("run")
    chosen = [place for place in all_runs if place.id in asked] or all_runs[:MOST_COMPARED]
    chosen = chosen[:MOST_COMPARED]
    return render(
        request,
        "runs.html",
        rows=[_row(request, place) for place in all_runs],
        chosen=chosen,
        names=_curve_names(request, chosen),
        differing=differences([settings(place.folder) for place in chosen]) if len(chosen) > 1 else [],
        lasts=[(place, _last_previews(place)) for place in chosen],
    )


@router.get("/series")
def series(request: Request) -> Response:
    """One curve of some runs, as JSON for the chart."""
    studio = studio_of(request)
    name = request.query_params.get("name", "loss")
    found = []
    for run_id in request.query_params.getlist("run")[:MOST_COMPARED]:
        place = place_of(request, run_id, "run")
        steps, values = studio.curves(place).series(name)
        found.append({"name": place.name, "x": steps, "y": values})
    return JSONResponse({"name": name, "runs": found})


@router.get("/{place_id}")
def run(request: Request, place_id: str) -> Response:
    """One run."""
    place = place_of(request, place_id, "run")
    shown = previews(place.folder)
    steps = spread(sorted({item.step for item in shown}))
    prompts = {item.number: item.prompt for item in shown}
    return render(
        request,
        "run.html",
        place=place,
        names=_curve_names(request, [place]),
        vitals=vitals(place.folder),
        last=studio_of(request).curves(place).last,
        prompts=prompts,
        steps=steps,
        shown={(item.number, item.step): item for item in shown},
        plans=plan_tables(place.folder),
        has_sheet=(place.folder / SHEET).is_file(),
        logs=log_tails(place.folder),
        settings=_text(place, "resolved.toml") or _text(place, "model.toml"),
    )


@router.get("/{place_id}/vitals")
def signs(request: Request, place_id: str) -> Response:
    """Only how the run is, for a page that stays open."""
    place = place_of(request, place_id, "run")
    last = studio_of(request).curves(place).last
    return render(request, "_vitals.html", place=place, vitals=vitals(place.folder), last=last)


@router.get("/{place_id}/samples/{name}")
def sample(request: Request, place_id: str, name: str) -> Response:
    """A preview; the name has to be one of those that were listed."""
    place = place_of(request, place_id, "run")
    if name not in {item.name for item in previews(place.folder)}:
        raise HTTPException(404, "No such preview.")
    kept = {"cache-control": "private, max-age=86400"}
    return FileResponse(place.folder / "samples" / name, headers=kept)


@router.get("/{place_id}/sheet")
def sheet(request: Request, place_id: str) -> Response:
    """The contact sheet that was drawn before the first step: what the network gets to see, by bucket."""
    path = place_of(request, place_id, "run").folder / SHEET
    if not path.is_file():
        raise HTTPException(404, "There is no contact sheet.")
    return FileResponse(path, headers={"cache-control": "private, no-cache"})


def _row(request: Request, place: Place) -> dict[str, Any]:
    return {
        "place": place,
        "vitals": vitals(place.folder),
        "last": studio_of(request).curves(place).last,
    }


def _last_previews(place: Place) -> list[Any]:
    found = {item.number: item for item in previews(place.folder)}
    return list(found.values())[:4]


def _curve_names(request: Request, chosen: list[Place]) -> list[str]:
    """What there is of any of them: losses first."""
    studio = studio_of(request)
    names = dict.fromkeys(name for place in chosen for name in studio.curves(place).names())

    def rank(name: str) -> tuple[int, str]:
        places = [at for at, begin in enumerate(_ORDER) if name == begin or name.startswith(f"{begin}.")]
        return (min(places) if places else 1 if name.startswith("loss_") else len(_ORDER), name)

    return sorted(names, key=rank)


def _text(place: Place, name: str) -> str:
    path = place.folder / name
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
