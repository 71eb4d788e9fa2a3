"""Serving the studio: the address is told when it answers, and the token with it, once."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from kinema.errors import OutputError
from kinema.studio.app import create_app
from kinema.studio.config import StudioConfig

_PATIENCE_S = 5


@dataclass(frozen=True)
class Ready:
    """Where the studio answers; `enter` is the address to open, with the token in it if there is one."""

    url: str
    enter: str
    token: str | None
    out: str


def serve(config: StudioConfig, folders: Sequence[Path], ready: Callable[[Ready], None]) -> None:
    """Serve until Ctrl-C. Raises `KinemaError` for folders that cannot be opened and ports that are taken."""
    if config.token is None and not config.loopback:
        config = replace(config, token=secrets.token_urlsafe(24))
    app = create_app(config, folders)
    listening = _listen(config)
    host = f"[{config.host}]" if ":" in config.host else config.host
    url = f"http://{host}:{listening.getsockname()[1]}/"
    enter = f"{url}enter?token={config.token}" if config.token else url
    server = _Telling(
        # No access log: it would hold tokens and voters' links.
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_PATIENCE_S,
        ),
        lambda: ready(Ready(url, enter, config.token, str(app.state.studio.out))),
    )
    server.run(sockets=[listening])


class _Telling(uvicorn.Server):
    """Says so when it answers."""

    def __init__(self, config: uvicorn.Config, told: Callable[[], None]) -> None:
        super().__init__(config)
        self._told = told

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._told()


def _listen(config: StudioConfig) -> socket.socket:
    host = config.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, config.port))
    except OSError as error:
        listening.close()
        raise OutputError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror or error}; choose another --port"
        ) from error
    return listening
