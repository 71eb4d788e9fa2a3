"""Who is asking: the owner or a voter, told by signed cookies; and the tokens that make a form ours."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from fastapi import HTTPException, Request, Response

from kinema.files import atomic_path

OWNER, VOTER = "kinema_owner", "kinema_voter"
_LASTS_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Session:
    """`id` is random; `bound` is what it was given for: the hash of the owner's token, or a voter's link."""

    id: str
    bound: str


class Keeper:
    """Signs and reads cookies. The key outlives a restart, so that voters can go on; tokens need not."""

    def __init__(self, key_file: Path, token: str | None) -> None:
        self._key = _read_or_make(key_file)
        self.token_hash = "" if token is None else fingerprint(token)

    @property
    def open(self) -> bool:
        """Whether everyone who can reach the address is the owner."""
        return not self.token_hash

    def admits(self, token: str) -> bool:
        """Whether this is the owner's token; takes equally long whatever it is."""
        return not self.open and hmac.compare_digest(fingerprint(token), self.token_hash)

    def read(self, request: Request, name: str) -> Session | None:
        """The session of a cookie that we signed and that is not too old."""
        parts = request.cookies.get(name, "").split(".")
        if len(parts) != 4:
            return None
        identity, bound, issued, signature = parts
        if not hmac.compare_digest(signature, self._sign(name, identity, bound, issued)):
            return None
        return Session(identity, bound) if time.time() - int(issued) < _LASTS_S else None

    def owner(self, request: Request) -> Session | None:
        """The owner's session: of this token, if there is one."""
        session = self.read(request, OWNER)
        return session if session is not None and session.bound == (self.token_hash or "open") else None

    def begin(self, response: Response, name: str, bound: str, request: Request) -> Session:
        """Give a new session. Scripts cannot read it, other sites cannot send it with a form."""
        session = Session(secrets.token_hex(12), bound)
        issued = str(int(time.time()))
        response.set_cookie(
            name,
            ".".join([session.id, bound, issued, self._sign(name, session.id, bound, issued)]),
            max_age=_LASTS_S,
            httponly=True,
            secure=request.url.scheme == "https",
            # A voter comes from a link in a mail; only Lax lets the cookie through on the first page.
            samesite="strict" if name == OWNER else "lax",
            path="/" if name == OWNER else "/vote",
        )
        return session

    def form_token(self, session: Session) -> str:
        """What a form of this session carries; nobody else can make it."""
        return self._sign("form", session.id, session.bound)

    def _sign(self, *parts: str) -> str:
        return hmac.new(self._key, "\n".join(parts).encode(), hashlib.sha256).hexdigest()


def fingerprint(token: str) -> str:
    """A token as it may be kept."""
    return hashlib.sha256(token.encode()).hexdigest()


async def check_form(request: Request, keeper: Keeper, session: Session) -> None:
    """Refuse a change that did not come from one of our own pages."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This came from another site.")
    given = request.headers.get("x-csrf-token", "")
    if not given and "form" in request.headers.get("content-type", ""):
        given = str((await request.form()).get("csrf", ""))
    if not hmac.compare_digest(given.encode(), keeper.form_token(session).encode()):
        raise HTTPException(403, "This form is out of date. Reload the page and try again.")


def _read_or_make(path: Path) -> bytes:
    if path.is_file() and len(key := path.read_bytes()) == 32:
        return key
    key = secrets.token_bytes(32)
    with atomic_path(path) as temporary:
        temporary.write_bytes(key)
    path.chmod(0o600)
    return key
