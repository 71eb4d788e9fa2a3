"""The front door: the owner's token becomes a cookie; the first page leads to what is open."""

from __future__ import annotations

import re

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from kinema.studio.pages import render
from kinema.studio.places import Kind
from kinema.studio.sessions import OWNER
from kinema.studio.state import require_owner, studio_of

router = APIRouter()


@router.get("/enter")
async def enter(request: Request, token: str = "", to: str = "/") -> Response:
    """Exchange the token for a cookie; the address with the token in it does not stay in the bar."""
    keeper = studio_of(request).keeper
    response = RedirectResponse(_own_page(to), 303)
    if keeper.open:
        keeper.begin(response, OWNER, "open", request)
        return response
    if not keeper.admits(token):
        raise HTTPException(401, "This token is not the one that the studio printed when it started.")
    keeper.begin(response, OWNER, keeper.token_hash, request)
    return response


@router.get("/")
async def home(request: Request) -> Response:
    """Everything that is open. Whoever is let in without a token gets a cookie here."""
    keeper = studio_of(request).keeper
    if keeper.owner(request) is None:
        if keeper.open:
            return RedirectResponse("/enter", 303)
        return render(request, "enter.html", 401)
    await require_owner(request)
    studio_of(request).places.look_again()
    return render(request, "home.html")


@router.get("/data", dependencies=[Depends(require_owner)])
async def datasets(request: Request) -> Response:
    """The only dataset, or all that are open."""
    return one_or_all(request, "dataset", "/data/")


def one_or_all(request: Request, kind: Kind, prefix: str) -> Response:
    """Straight to the only folder of a kind; the list when there are none or several."""
    studio_of(request).places.look_again()
    found = studio_of(request).places.all(kind)
    return (
        RedirectResponse(f"{prefix}{found[0].id}", 303) if len(found) == 1 else render(request, "home.html")
    )


def _own_page(address: str) -> str:
    """Never leads elsewhere."""
    return address if re.fullmatch(r"/(?:[\w][\w/.?=&%:+~-]*)?", address, re.ASCII) else "/"


@router.get("/keys", dependencies=[Depends(require_owner)])
async def keys(request: Request) -> Response:
    """All keys, for those who look for them."""
    return render(request, "keys.html")
