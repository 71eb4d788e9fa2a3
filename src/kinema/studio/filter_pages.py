"""The thresholds of a dataset: moved with a finger, counted at once, written when asked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from kinema.curate.filters import FilterConfig
from kinema.curate.measured import CAMERA_WORDS
from kinema.curate.refilter import filters_of, refilter
from kinema.curate.report import refresh_report
from kinema.curate.verdicts import read_verdicts
from kinema.errors import DatasetError
from kinema.files import locked
from kinema.studio.clip_index import ClipIndex
from kinema.studio.dataset_pages import opened
from kinema.studio.pages import render
from kinema.studio.places import Place
from kinema.studio.state import require_owner
from kinema.studio.thresholds import Histograms, read_filters

router = APIRouter(prefix="/data/{place_id}/filters", dependencies=[Depends(require_owner)])

ABOUT = {
    "duration_s": "seconds",
    "side": "shorter side, pixels",
    "aspect_ratio": "height / width",
    "fps": "frames a second",
    "motion_score": "optical flow, pixels in half a second",
    "text_area": "share of the picture",
    "aesthetic_score": "as people rate pictures",
    "technical_quality": "sharp, well exposed, clean",
    "brightness": "0 black, 1 white",
    "black_frames": "share of the frames",
    "frozen_frames": "share of the frames",
    "text_match": "caption against picture",
}


@router.get("")
def filters(request: Request, place_id: str) -> Response:
    """All histograms with the bounds that the folder was last filtered with."""
    place, index = opened(request, place_id)
    config = filters_of(index.folder)
    return render(request, "filters.html", **_shown(place, index, config, ""))


@router.post("/preview")
async def preview(request: Request, place_id: str) -> Response:
    """What would remain; nothing is written."""
    form = dict(await request.form())

    def count() -> Response:
        place, index = opened(request, place_id)
        config = read_filters(form, filters_of(index.folder))
        context = _shown(place, index, config, str(form.get("moved", "")))
        return render(request, "_filters.html", **context)

    return await run_in_threadpool(count)


@router.post("/apply")
async def apply(request: Request, place_id: str) -> Response:
    """Write the filters: kept and drop_reasons of every clip, and dataset.toml."""
    form = dict(await request.form())

    def write() -> None:
        _, index = opened(request, place_id)
        _refilter(index, read_filters(form, filters_of(index.folder)))

    await run_in_threadpool(write)
    return RedirectResponse(f"/data/{place_id}/filters", 303)


@router.post("/undo")
async def undo(request: Request, place_id: str) -> Response:
    """Back to the filters before the last ones."""

    def write() -> None:
        _, index = opened(request, place_id)
        _refilter(index, filters_of(index.folder, previous=True))

    await run_in_threadpool(write)
    return RedirectResponse(f"/data/{place_id}/filters", 303)


def _refilter(index: ClipIndex, config: FilterConfig) -> None:
    with locked(index.folder):
        refilter(index.folder, config)
        refresh_report(index.folder)
    index.refresh(now=True)


def _shown(place: Place, index: ClipIndex, config: FilterConfig, moved: str) -> dict[str, Any]:
    histograms = _histograms(index)
    remains, found = histograms.remains(config)
    border = histograms.border(found, moved)
    sides = {}
    if border is not None:
        for side, rows in (("dropped", border.dropped), ("kept", border.kept)):
            clips = index.clips([str(histograms.clip_ids[row]) for row in rows])
            sides[side] = [
                (clip, histograms.value(border.check.score, row))
                for clip, row in zip(clips, rows, strict=True)
            ]
    return {
        "place": place,
        "config": config,
        "remains": remains,
        "border": border,
        "sides": sides,
        "about": ABOUT,
        "cameras": CAMERA_WORDS,
        "can_undo": _has_previous(index),
    }


def _histograms(index: ClipIndex) -> Histograms:
    """Kept until the table or a verdict changes."""
    if index.derived is None or index.derived[0] != index.version:
        scores, table = index.scores()
        index.derived = (index.version, Histograms(scores, table, read_verdicts(index.folder)))
    histograms = index.derived[1]
    assert isinstance(histograms, Histograms)
    return histograms


def _has_previous(index: ClipIndex) -> bool:
    try:
        filters_of(index.folder, previous=True)
    except DatasetError:
        return False
    return True
