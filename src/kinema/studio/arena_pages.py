"""The owner's side of an arena: the ranking, who voted, and the links that let people vote."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import RedirectResponse, Response

from kinema.errors import KinemaError
from kinema.evaluate.arena import Arena
from kinema.evaluate.ballot import CHECK
from kinema.evaluate.preference import DisconnectedVotesError, PreferenceConfig, rank
from kinema.evaluate.votes import Vote, scored_votes
from kinema.studio.entry import one_or_all
from kinema.studio.pages import render
from kinema.studio.places import Place
from kinema.studio.state import place_of, require_owner, studio_of

router = APIRouter(prefix="/arena", dependencies=[Depends(require_owner)])

MOST_QUESTIONS = 500


@router.get("")
async def arenas(request: Request) -> Response:
    """The only arena, or all that are open."""
    return one_or_all(request, "arena", "/arena/")


@router.get("/{place_id}")
def arena(request: Request, place_id: str) -> Response:
    """The ranking of every axis."""
    place = place_of(request, place_id, "arena")
    return render(request, "arena.html", **_shown(request, place))


@router.post("/{place_id}/links")
async def make_link(request: Request, place_id: str) -> Response:
    """A new link; its address is on this answer and nowhere else."""
    place = place_of(request, place_id, "arena")
    form = await request.form()
    questions = str(form.get("questions", "30"))
    if not questions.isdecimal() or not 1 <= int(questions) <= MOST_QUESTIONS:
        raise HTTPException(400, f"The number of questions is from 1 to {MOST_QUESTIONS}.")
    links = studio_of(request).links
    _, token = await run_in_threadpool(links.make, place.id, str(form.get("label", "")), int(questions))
    if form.get("here"):
        return RedirectResponse(f"/vote/enter/{token}", 303)
    address = f"{str(request.base_url).rstrip('/')}/vote/enter/{token}"
    shown = await run_in_threadpool(_shown, request, place)
    return render(request, "arena.html", **(shown | {"new_link": address}))


@router.post("/{place_id}/links/{link_id}/revoke")
async def revoke(request: Request, place_id: str, link_id: str) -> Response:
    """From now on the link opens nothing; the votes stay."""
    place = place_of(request, place_id, "arena")
    if all(link.id != link_id for link in studio_of(request).links.of_place(place.id)):
        raise HTTPException(404, "No such link.")
    await run_in_threadpool(studio_of(request).links.revoke, link_id)
    return RedirectResponse(f"/arena/{place.id}", 303)


def _shown(request: Request, place: Place) -> dict[str, Any]:
    studio = studio_of(request)
    ballot = studio.ballot(place)
    votes = ballot.arena.votes.read()
    counted, careless = scored_votes(votes)
    return {
        "place": place,
        "arena": ballot.arena,
        "votes": len(counted),
        "axes": {axis: _ranked(ballot.arena, counted, axis) for axis in ballot.arena.axes},
        "voters": _voters(votes, careless),
        "links": studio.links.of_place(place.id),
        "loopback": studio.config.loopback,
        "new_link": "",
    }


def _ranked(arena: Arena, votes: list[Vote], axis: str) -> dict[str, Any]:
    """A ranking for each group of models that votes connect, or in words why there is none."""
    chosen = [vote for vote in votes if vote.axis == axis]
    if not chosen:
        return {"fault": "No votes yet.", "boards": []}
    try:
        return {"fault": "", "boards": [_board(chosen, arena.title)]}
    except DisconnectedVotesError as error:
        parts = [[vote for vote in chosen if vote.model_a in group] for group in error.apart]
        fault = "No vote compares one of these groups of models with another: each has its own ranking."
        return {"fault": fault, "boards": [_board(part, arena.title) for part in parts if part]}
    except KinemaError as error:
        return {"fault": str(error), "boards": []}


def _board(votes: list[Vote], title: str) -> dict[str, Any]:
    """A ranking, with the ends of the chart that shows it."""
    found = rank(votes, PreferenceConfig(bootstraps=0, elo_orders=200), source=title)
    ends = [row["davidson"] for row in found["models"]]
    ends += [end for row in found["models"] for end in row.get("exact_interval") or () if end is not None]
    low, high = min(ends), max(ends)
    return found | {"low": low, "high": max(high, low + 1)}


def _voters(votes: list[Vote], careless: tuple[str, ...]) -> list[dict[str, Any]]:
    """By voter: votes, checks passed, median time."""
    names = Counter(vote.voter for vote in votes if vote.model_b != CHECK)
    found = []
    for voter, count in names.most_common(50):
        checks = [
            vote.check_passed for vote in votes if vote.voter == voter and vote.check_passed is not None
        ]
        times = sorted(vote.took_s for vote in votes if vote.voter == voter and vote.took_s is not None)
        found.append(
            {
                "voter": voter,
                "votes": count,
                "checks": len(checks),
                "passed": sum(map(bool, checks)),
                "left_out": voter in careless,
                "took_s": times[len(times) // 2] if times else None,
            }
        )
    return found
