"""The commands that give datasets to other programs, and take theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kinema.cli.commands import Json, app
from kinema.cli.terminal import Bars, show


@app.command(help_epilogue="Example: kinema export dataset --format webdataset --out shards")
def export(
    dataset: Annotated[Path, Parameter(help="A folder that kinema curate wrote.")],
    /,
    *,
    format_: Annotated[
        Literal["folder", "csv", "webdataset", "huggingface"],
        Parameter(name="--format", help="Files with .txt captions, Open-Sora's CSV, tar shards, datasets."),
    ],
    out: Annotated[Path, Parameter(name="--out", help="The folder to write.")],
    json: Json = False,
) -> int:
    """Write the kept clips of a dataset in a form that other programs read."""
    from kinema.curate.exports import export as run

    with Bars() as bars:
        summary = run(dataset, out, format_, bars)
    show(summary, as_json=json)
    return int(bool(summary["failed"]))


@app.command(name="import", help_epilogue="Example: kinema import clips.csv --out dataset")
def import_(
    source: Annotated[Path, Parameter(help="A folder of clips, a .csv with paths and texts, or tar shards.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The dataset folder to write.")],
    json: Json = False,
) -> int:
    """Make a dataset of clips that are cut already; the files stay where they are."""
    from kinema.curate.imports import import_clips

    with Bars() as bars:
        summary = import_clips(source, out, bars)
    show(summary, as_json=json)
    return int(bool(summary["failed"]))
