"""The pages of a dataset: a grid of clips, and one clip."""

from __future__ import annotations

from typing import Any

import pyarrow.parquet as pq
from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response

from kinema.curate.filters import SCORES
from kinema.studio.clip_index import ClipIndex, Row
from kinema.studio.clip_query import COLUMNS, PAGE_SIZE, read_query
from kinema.studio.edits import give_verdict, verdict_of, write_caption
from kinema.studio.pages import render
from kinema.studio.places import Place
from kinema.studio.state import place_of, require_owner, studio_of

router = APIRouter(prefix="/data/{place_id}", dependencies=[Depends(require_owner)])

SHOWN_SCORES = (*SCORES, "letterbox", "camera_confidence")
_KEPT_S = 7 * 24 * 3600


def opened(request: Request, place_id: str) -> tuple[Place, ClipIndex]:
    """A dataset and its clip table."""
    place = place_of(request, place_id, "dataset")
    return place, studio_of(request).index(place)


def found_clip(index: ClipIndex, clip_id: str) -> Row:
    """A clip by its id, or 404."""
    row = index.clip(clip_id)
    if row is None:
        raise HTTPException(404, "No such clip is in this dataset.")
    return row


@router.get("")
def grid(request: Request, place_id: str) -> Response:
    """A page of clips; only the results when htmx asks."""
    place, index = opened(request, place_id)
    query, faults = read_query(request.query_params.multi_items())
    found = index.find(query)
    context: dict[str, Any] = {
        "place": place,
        "query": query,
        "found": found,
        "faults": faults,
        "columns": COLUMNS,
        "page_size": PAGE_SIZE,
    }
    partial = request.headers.get("hx-request") == "true"
    return render(request, "_clips.html" if partial else "dataset.html", **context)


@router.get("/clip/{clip_id}")
def clip(request: Request, place_id: str, clip_id: str) -> Response:
    """One clip and everything that is known of it."""
    place, index = opened(request, place_id)
    row = found_clip(index, clip_id)
    siblings = index.of_source(row["source_id"])
    at = next(number for number, item in enumerate(siblings) if item["clip_id"] == clip_id)
    return render(
        request,
        "clip.html",
        place=place,
        clip=row,
        siblings=siblings,
        earlier=siblings[at - 1] if at else None,
        later=siblings[at + 1] if at + 1 < len(siblings) else None,
        source=_source(index, row),
        scores=_scores(index, row),
        duplicates=index.near_duplicates(row),
        verdict=verdict_of(index, clip_id),
        columns=COLUMNS,
    )


def _scores(index: ClipIndex, row: Row) -> list[tuple[str, float | None, float]]:
    """Name, value, and the share of all clips that have less."""
    found = []
    for name in SHOWN_SCORES:
        value = row[name]
        found.append((name, value, 0.0 if value is None else index.standing(name, value)))
    return found


def _source(index: ClipIndex, row: Row) -> dict[str, Any]:
    """The source's row; its length is at least where its last clip ends."""
    folder = index.folder / "sources"
    part = folder / f"part-{row['source_id']}.parquet"
    parts = [part] if part.is_file() else sorted(folder.glob("part-*.parquet"))[:50]
    for path in parts:
        for source in pq.read_table(path, filters=[("source_id", "=", row["source_id"])]).to_pylist():
            return dict(source)
    return {"path": row["source_path"], "duration_s": 0.0, "codec": "", "sha256": "", "bytes": 0}


@router.post("/clip/{clip_id}/caption")
async def caption(request: Request, place_id: str, clip_id: str) -> Response:
    """A person's caption."""
    text = str((await request.form()).get("text", ""))

    def change() -> None:
        _, index = opened(request, place_id)
        write_caption(index, found_clip(index, clip_id), text)

    await run_in_threadpool(change)
    return RedirectResponse(f"/data/{place_id}/clip/{clip_id}", 303)


@router.post("/clip/{clip_id}/verdict")
async def verdict(request: Request, place_id: str, clip_id: str) -> Response:
    """Kept or dropped by hand, or left to the filters again."""
    form = await request.form()
    said = {"keep": True, "drop": False, "filters": None}
    answer = str(form.get("verdict", ""))
    if answer not in said:
        raise HTTPException(400, "Say keep, drop or filters.")

    def change() -> None:
        _, index = opened(request, place_id)
        give_verdict(index, found_clip(index, clip_id), said[answer], str(form.get("reason", "")))

    await run_in_threadpool(change)
    return RedirectResponse(f"/data/{place_id}/clip/{clip_id}", 303)


@router.get("/media/{name}")
async def media(request: Request, place_id: str, name: str) -> Response:
    """A clip as CLIP_ID.mp4, or its picture as CLIP_ID.jpg; both are cut when they are first asked for."""
    clip_id, _, suffix = name.partition(".")
    place, index = opened(request, place_id)
    row = found_clip(index, clip_id)
    if suffix not in ("mp4", "jpg"):
        raise HTTPException(404, "There is .mp4 and .jpg.")
    path = place.folder / "thumbnails" / f"{row['clip_id']}.jpg"
    if suffix == "mp4" or not path.is_file():
        clip = await run_in_threadpool(index.full, row)
        path = await studio_of(request).media.clip(place.folder, clip, f".{suffix}")
    kept = {"cache-control": f"private, max-age={_KEPT_S}"}
    return FileResponse(path, media_type="video/mp4" if suffix == "mp4" else "image/jpeg", headers=kept)
