"""Commands on a dataset folder that is there: filter it again, caption it, show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.commands import Config, Json, Sets, app
from kinema.cli.terminal import Bars, show

Folder = Annotated[Path, Parameter(help="A folder that kinema curate wrote.")]


@app.command(
    name="filter", help_epilogue="Example: kinema filter dataset --set motion_score.drop_lowest=0.25"
)
def filter_(
    dataset: Folder,
    /,
    *,
    config: Config = None,
    set_: Sets = (),
    defaults: Annotated[
        bool, Parameter(negative=(), help="Begin with the default filters, not those of the folder.")
    ] = False,
    undo: Annotated[
        bool, Parameter(negative=(), help="Go back to the filters before the last ones.")
    ] = False,
    json: Json = False,
) -> int:
    """Choose anew which clips are kept, in seconds; no row is deleted, and nothing is decoded."""
    from kinema.config import load_config
    from kinema.curate.filters import FilterConfig
    from kinema.curate.refilter import filters_of, filters_table, refilter
    from kinema.curate.report import refresh_report

    base = None if defaults else filters_table(filters_of(dataset, previous=undo))
    summary = refilter(dataset, load_config(FilterConfig, config, set_, base=base))
    refresh_report(dataset)
    show(summary.as_dict(), as_json=json)
    return int(not summary.kept)


@app.command(help_epilogue="Example: kinema report dataset --out report.html")
def report(
    dataset: Folder,
    /,
    *,
    out: Annotated[
        Path | None, Parameter(name="--out", help="The page; report.html in the folder when left out.")
    ] = None,
    json: Json = False,
) -> int:
    """One page that shows a dataset: what was kept, what was dropped and why, and every score."""
    from kinema.curate.report import write_report

    show(write_report(dataset, out or dataset / "report.html"), as_json=json)
    return 0


@app.command(
    help_epilogue="Example: kinema caption dataset --backend endpoint --url http://localhost/v1 --model llava"
)
def caption(
    dataset: Folder,
    /,
    *,
    backend: Annotated[
        str | None, Parameter(help="endpoint, transformers or measured; measured when left out.")
    ] = None,
    model: Annotated[
        str | None, Parameter(help="The model: its name at the endpoint, a folder, or a name on the hub.")
    ] = None,
    url: Annotated[
        str | None, Parameter(help="Where the endpoint is, as far as /v1; its key comes from OPENAI_API_KEY.")
    ] = None,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Caption the kept clips: the middle frame, the video, and both merged; goes on where it stopped."""
    from json import dumps

    from kinema.config import load_config
    from kinema.curate.captioning import CaptioningConfig, caption_dataset

    named = {"kind": backend, "model": model, "url": url}
    # Before --set, so that its keys are those of the backend that is named.
    given = [f"backend.{name}={dumps(value)}" for name, value in named.items() if value is not None]
    settings = load_config(CaptioningConfig, config, [*given, *set_])
    with Bars() as bars:
        summary = caption_dataset(dataset, settings, bars)
    show(summary.as_dict(), as_json=json)
    return int(bool(summary.failed or summary.left))


@app.command(
    name="render-orbits", help_epilogue="Example: kinema render-orbits models --out orbits --set size=256"
)
def render_orbits(
    *meshes: Annotated[Path, Parameter(help="Meshes (.obj, .glb, .ply, .stl, .off), or folders of them.")],
    out: Annotated[Path, Parameter(name="--out", help="The dataset folder to write.")],
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Film each mesh from once around it, in random light, as a dataset with the camera's angles."""
    from kinema.config import load_config
    from kinema.render.dataset import OrbitConfig
    from kinema.render.dataset import render_orbits as run

    settings = load_config(OrbitConfig, config, set_)
    with Bars() as bars:
        summary = run(meshes, out, settings, bars)
    show(summary, as_json=json)
    return int(bool(summary["failed"]))
