"""Making videos: a form with a timeline, the queue, and a gallery of what was made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response

from kinema.errors import ConfigError
from kinema.studio.jobs import Job
from kinema.studio.pages import render
from kinema.studio.places import Place
from kinema.studio.state import require_owner, studio_of

if TYPE_CHECKING:
    from kinema.studio.requests import ModelFacts

# What samples imports torch, which takes seconds: the functions below import it when they are first called.
router = APIRouter(prefix="/generate", dependencies=[Depends(require_owner)])

UPLOADS = "/generate/uploads"
PAGE = 24
SAMPLERS = ("", "ancestral", "ddim", "euler", "heun", "dpmpp-2m")
CAMERAS = ("static", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out")
_KEPT = {"cache-control": "private, max-age=86400"}


@router.get("")
def generate(request: Request) -> Response:
    """The form, filled as an earlier job was when asked to, the queue and the gallery."""
    studio = studio_of(request)
    studio.places.look_again()
    again = studio.jobs.get(request.query_params.get("again", ""))
    form = {"task": "text"} if again is None else dict(again.form)
    asked = request.query_params.get("model") or str(form.get("model", ""))
    model = _model(request, asked)
    form["model"] = model.id
    shown = _timeline(request, form)
    if form["task"] not in shown["facts"].tasks:
        form["task"] = shown["facts"].tasks[0]
        shown = _timeline(request, form)
    return render(
        request,
        "generate.html",
        models=studio.places.models(),
        form=defaultdict(str, form),
        samplers=SAMPLERS,
        cameras=CAMERAS,
        items=_items(request, form),
        **shown,
        **_queue(request),
    )


@router.post("/timeline")
async def timeline(request: Request) -> Response:
    """What of the output would be given and what made, frame by frame."""
    form = _plain(await request.form())
    return await run_in_threadpool(
        lambda: render(request, "_timeline.html", form=form, **_timeline(request, form))
    )


@router.post("")
async def submit(request: Request) -> Response:
    """A job at the end of the queue; refused at once where its settings do not go together."""
    form = _plain(await request.form())

    def put() -> Response:
        from kinema.generate.pipeline import request_record
        from kinema.studio import requests

        studio = studio_of(request)
        model = _model(request, str(form.get("model", "")))
        if len(studio.jobs.waiting()) >= studio.config.limits.jobs:
            raise ConfigError(f"{studio.config.limits.jobs} videos are waiting already")
        config = requests.config_of_form(form, studio.uploads.get)
        requests.timeline(config, requests.ModelFacts.of(model.folder))
        studio.jobs.submit(model.folder, request_record(config), form)
        studio.maker.wake()
        if request.headers.get("hx-request") == "true":
            return render(request, "_jobs.html", **_queue(request))
        return RedirectResponse("/generate", 303)

    return await run_in_threadpool(put)


@router.post("/uploads")
async def upload(request: Request) -> Response:
    """A picture or a clip as the body; answers with its row on the timeline."""
    number = request.query_params.get("number", "0")
    if not number.isdecimal() or len(number) > 4:
        raise HTTPException(400, "number is a whole number")
    found = await studio_of(request).uploads.add(request.stream())
    item = await run_in_threadpool(_item, int(number), found.id, {}, request)
    return render(request, "_item.html", item=item)


@router.get("/uploads/{upload_id}.{suffix}")
async def uploaded(request: Request, upload_id: str, suffix: str) -> Response:
    """An upload as it is kept, or a small picture of it."""
    found = studio_of(request).uploads.get(upload_id)
    if found is None or suffix not in (found.path.suffix[1:], "jpg"):
        raise HTTPException(404, "No such upload.")
    path = found.path
    if suffix == "jpg":
        path = await studio_of(request).media.file(found.path, ".jpg")
    return FileResponse(path, headers=_KEPT)


@router.get("/jobs")
def jobs(request: Request) -> Response:
    """The queue and the gallery."""
    studio_of(request).maker.wake()
    return render(request, "_jobs.html", **_queue(request))


@router.post("/jobs/{job_id}/{change}")
async def change_job(request: Request, job_id: str, change: str) -> Response:
    """Cancel or remove a job."""
    job = _job(request, job_id)
    queue = studio_of(request).jobs
    changes = {"cancel": queue.cancel, "remove": queue.remove}
    if change not in changes:
        raise HTTPException(404, "A job can be cancelled or removed.")
    await run_in_threadpool(changes[change], job)
    studio_of(request).maker.wake()
    if request.headers.get("hx-request") == "true":
        return await run_in_threadpool(lambda: render(request, "_jobs.html", **_queue(request)))
    return RedirectResponse("/generate", 303)


@router.get("/jobs/{job_id}/{name}")
def job_file(request: Request, job_id: str, name: str) -> Response:
    """What a job made, or the preview of its last step."""
    job = _job(request, job_id)
    files = {path.name: path for path in (job.result, job.preview)}
    if name not in files or not files[name].is_file():
        raise HTTPException(404, "It is not made yet.")
    return FileResponse(files[name], headers=_KEPT if name == job.result.name else None)


def _job(request: Request, job_id: str) -> Job:
    job = studio_of(request).jobs.get(job_id)
    if job is None:
        raise HTTPException(404, "No such video.")
    return job


def _model(request: Request, model_id: str) -> Place:
    """The model of a form; the first one when it names none."""
    models = studio_of(request).places.models()
    found = next((place for place in models if place.id == model_id), None)
    if found is None and model_id:
        raise HTTPException(404, "No such model is open.")
    return found or models[0]


def _plain(form: Mapping[str, Any]) -> dict[str, str]:
    """Text fields only, without the token."""
    return {name: value for name, value in form.items() if isinstance(value, str) and name != "csrf"}


def _timeline(request: Request, form: Mapping[str, Any]) -> dict[str, Any]:
    """The frames of a form, or in words what is wrong with it."""
    from kinema.studio import requests

    studio = studio_of(request)
    facts: ModelFacts = requests.ModelFacts.of(_model(request, str(form.get("model", ""))).folder)
    try:
        filled = {**form, "prompt": form.get("prompt") or "…"}
        config = requests.config_of_form(filled, studio.uploads.get)
        return {"facts": facts, "line": requests.timeline(config, facts), "wrong": ""}
    except ConfigError as error:
        return {"facts": facts, "line": None, "wrong": _without_names(str(error))}


def _without_names(words: str) -> str:
    """The names of kept uploads mean nothing to people."""
    return " ".join("it" if part.rstrip(":,").endswith((".mp4", ".png")) else part for part in words.split())


def _items(request: Request, form: Mapping[str, Any]) -> list[dict[str, Any]]:
    numbers = sorted(
        int(name.split(".")[1]) for name in form if name.startswith("item.") and name.endswith(".upload")
    )
    found = [_item(number, str(form[f"item.{number}.upload"]), form, request) for number in numbers]
    return [item for item in found if item["upload"] is not None]


def _item(number: int, upload_id: str, form: Mapping[str, Any], request: Request) -> dict[str, Any]:
    from kinema.video.reader import probe

    found = studio_of(request).uploads.get(upload_id)
    info = None if found is None else probe(found.path)
    fields = {name: form.get(f"item.{number}.{name}", "") for name in ("at", "first", "frames", "strength")}
    return {"number": number, "upload": found, "info": info, "fields": fields}


def _queue(request: Request) -> dict[str, Any]:
    """Jobs that are to be made, in order, and those that have ended, the newest first."""
    everything = [(job, job.status) for job in studio_of(request).jobs.all()]
    page = request.query_params.get("page", "1")
    number = max(1, int(page)) if page.isdecimal() and len(page) < 6 else 1
    ended = [item for item in reversed(everything) if item[1].state not in ("queued", "running")]
    return {
        "waiting": [item for item in everything if item[1].state in ("queued", "running")],
        "ended": ended[PAGE * (number - 1) : PAGE * number],
        "page": number,
        "pages": max(1, -(-len(ended) // PAGE)),
    }
