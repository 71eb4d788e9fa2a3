"""The voter's side: one page, two videos, and nothing else."""

from __future__ import annotations

from typing import Any, Literal, cast, get_args

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, RedirectResponse, Response

from kinema.evaluate.ballot import Answer, Asked, Ballot
from kinema.studio.links import Link
from kinema.studio.pages import render
from kinema.studio.sessions import VOTER, Session, check_form
from kinema.studio.state import Studio, studio_of

router = APIRouter(prefix="/vote")
QUESTIONS = {
    "quality": "Which video looks better?",
    "prompt_following": "Which video shows more of what the text says?",
}


async def require_voter(request: Request) -> Session:
    """A voter whose link still holds; their answers have to come from our page."""
    studio = studio_of(request)
    session = studio.keeper.read(request, VOTER)
    link = None if session is None else studio.links.get(session.bound)
    if session is None or link is None:
        raise HTTPException(403, "Open the link that you were sent; it may have been taken back.")
    request.state.session, request.state.link = session, link
    if request.method not in ("GET", "HEAD"):
        await check_form(request, studio.keeper, session)
    return session


Voter = Depends(require_voter)


@router.get("/enter/{token}")
async def enter(request: Request, token: str) -> Response:
    """Exchange the link for a cookie. Who comes again by the same link goes on where they stopped."""
    studio = studio_of(request)
    link = studio.links.of_token(token)
    if link is None:
        raise HTTPException(403, "This link does not open anything; it may have been taken back.")
    response = RedirectResponse("/vote", 303)
    session = studio.keeper.read(request, VOTER)
    if session is None or session.bound != link.id:
        studio.keeper.begin(response, VOTER, link.id, request)
    return response


@router.get("")
async def ballot(request: Request, session: Session = Voter) -> Response:
    """The open question, or thanks."""
    return await run_in_threadpool(_page, request, session)


@router.post("/answer")
async def answer(request: Request, session: Session = Voter) -> Response:
    """One answer; the same one again, after a lost connection, changes nothing."""
    form = await request.form()
    said = str(form.get("answer", ""))
    if said not in get_args(Answer):
        raise HTTPException(400, "Answer left, right, tie or both_bad.")

    def store() -> Response:
        asked = _asked(request, session, str(form.get("question", "")))
        axis, took_ms = str(form.get("axis", "")), str(form.get("took_ms", "0"))
        took_s = int(took_ms) / 1000 if took_ms.isdecimal() and len(took_ms) < 12 else 0.0
        _ballot(studio_of(request), request.state.link).answer(asked, axis, cast(Answer, said), took_s)
        if request.headers.get("hx-request") == "true":
            return _page(request, session)
        return RedirectResponse("/vote", 303)

    return await run_in_threadpool(store)


@router.get("/video/{question_id}/{side}.mp4")
async def video(
    request: Request, question_id: str, side: Literal["left", "right"], session: Session = Voter
) -> Response:
    """A video of a question that this voter was asked; the address does not tell which."""
    studio = studio_of(request)
    asked = await run_in_threadpool(_asked, request, session, question_id)
    ballot = _ballot(studio, request.state.link)
    found = ballot.video(asked.on(side) or asked.first)
    if found is None:
        raise HTTPException(404, "This video is no longer in the arena.")
    path = ballot.arena.path(found)
    if not path.is_file():
        raise HTTPException(404, "This video is no longer where it was.")
    spoiled = not asked.on(side)
    return FileResponse(await studio.media.judged(path, spoiled=spoiled), media_type="video/mp4")


def _ballot(studio: Studio, link: Link) -> Ballot:
    place = studio.places.get(link.place_id, "arena")
    if place is None:
        raise HTTPException(404, "This arena is not open now. Please come back later.")
    return studio.ballot(place)


def _asked(request: Request, session: Session, question_id: str) -> Asked:
    asked = _ballot(studio_of(request), request.state.link).question(session.id, question_id)
    if asked is None:
        raise HTTPException(404, "You were not asked this.")
    return asked


def _page(request: Request, session: Session) -> Response:
    studio, link = studio_of(request), request.state.link
    ballot = _ballot(studio, link)
    asked = ballot.next(session.id, link.questions)
    axis = None if asked is None else ballot.open_axis(asked)
    context: dict[str, Any] = {
        "asked": asked,
        "axis": axis,
        "question": QUESTIONS.get(axis or "", f"Which video is better: {axis}?"),
        "done": ballot.answered(session.id),
        "most": link.questions,
    }
    partial = request.headers.get("hx-request") == "true"
    return render(request, "_ballot.html" if partial else "vote.html", **context)
