"""What stands before every page: hosts, sizes, rates and headers, as plain ASGI."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from kinema.studio.config import Limits

POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "connect", "font")),
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        *("form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'", "object-src 'none'"),
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # A voter's link is a secret in an address.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
_VISITORS = 4096


class Headed:
    """Adds the security headers to every answer, errors too; pages are never kept by a cache."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class KnownHosts:
    """Refuses a Host header of another name, which is how a page elsewhere reaches a loopback address."""

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app, self._names = app, frozenset(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self._names:
            name = Headers(scope=scope).get("host", "").rsplit(":", 1)[0].strip("[]")
            if name not in self._names:
                await PlainTextResponse("unknown host", 421)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class SizedBodies:
    """Refuses a body that is too long, by its declared length and as it comes."""

    def __init__(self, app: ASGIApp, limits: Limits, upload_path: str) -> None:
        self._app, self._limits, self._upload_path = app, limits, upload_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        uploads = scope["path"] == self._upload_path
        most = self._limits.upload_mb << 20 if uploads else self._limits.form_kb << 10
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdigit() or int(declared) > most:
            await PlainTextResponse(f"at most {most} bytes", 413)(scope, receive, send)
            return
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise _TooLongError
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _TooLongError:
            if not begun:
                await PlainTextResponse(f"at most {most} bytes", 413)(scope, receive, send)


class _TooLongError(Exception):
    """A body without a declared length went on and on."""


class Rated:
    """Refuses a visitor who asks too often: a bucket of a minute's requests that fills evenly."""

    def __init__(self, app: ASGIApp, limits: Limits, entry_paths: tuple[str, ...]) -> None:
        self._app = app
        self._entry_paths = entry_paths
        self._requests = Buckets(limits.requests)
        self._changes = Buckets(limits.changes)
        self._entries = Buckets(limits.entries)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._admitted(scope):
            refusal = PlainTextResponse("too many requests; wait a minute", 429, {"retry-after": "60"})
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admitted(self, scope: Scope) -> bool:
        visitor = (scope.get("client") or ("", 0))[0]
        if scope["path"].startswith(self._entry_paths) and not self._entries.take(visitor):
            return False
        if scope["method"] not in ("GET", "HEAD") and not self._changes.take(visitor):
            return False
        return self._requests.take(visitor)


class Buckets:
    """A bucket for each of the last visitors: memory does not grow with their number."""

    def __init__(self, a_minute: int) -> None:
        self._most = float(a_minute)
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, visitor: str) -> bool:
        """Whether there was one left."""
        now = time.monotonic()
        left, since = self._left.pop(visitor, (self._most, now))
        left = min(self._most, left + (now - since) * self._most / 60)
        self._left[visitor] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _VISITORS:
            self._left.popitem(last=False)
        return left >= 1
