"""The command that serves the web pages."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kinema.cli.commands import Json, app
from kinema.cli.terminal import show, tell

if TYPE_CHECKING:
    from kinema.studio.serve import Ready


@app.command(help_epilogue="Example: kinema studio dataset run")
def studio(
    *folders: Annotated[
        Path, Parameter(help="Datasets, training runs, models, arenas, or folders that hold some.")
    ],
    host: Annotated[
        str, Parameter(help="The address to listen on; any but this machine's own needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, Parameter(help="The port; 0 takes a free one.")] = 8600,
    token: Annotated[
        str | None, Parameter(help="What visitors have to know; made and printed when it is needed.")
    ] = None,
    out: Annotated[
        Path,
        Parameter(name="--out", help="The folder for what is made here: videos, uploads, voters' links."),
    ] = Path("studio"),
    json: Json = False,
) -> int:
    """Look at data and runs, make videos, and let people vote, in the browser; Ctrl-C ends it."""
    from kinema.studio.config import StudioConfig
    from kinema.studio.serve import serve

    def ready(found: Ready) -> None:
        shown = asdict(found) | {"folders": [str(folder) for folder in folders]}
        show(shown, as_json=json, text=f"Open {found.enter}")
        if found.token is not None:
            tell("The token in it is shown only here. Whoever has it can see and change all that is open.")

    serve(StudioConfig(host=host, port=port, token=token, out=out), folders, ready)
    return 0
