"""The command that renders a dataset: a world whose every truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.commands import Config, Json, Sets, app
from kinema.cli.terminal import Bars, show


@app.command(
    name="render-world", help_epilogue="Example: kinema render-world --out dataset --clips 200 --seed 7"
)
def render_world(
    *,
    out: Annotated[Path, Parameter(name="--out", help="The dataset folder to write.")],
    clips: Annotated[int | None, Parameter(help="Videos to render.")] = None,
    images: Annotated[int | None, Parameter(help="Single frames to render besides.")] = None,
    seed: Annotated[int | None, Parameter(help="The same seed gives the same dataset.")] = None,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Render captioned clips of moving shapes, with the truth of each, as a dataset to train on."""
    from kinema.config import load_config
    from kinema.world.dataset import RenderConfig
    from kinema.world.dataset import render_world as run

    settings = load_config(RenderConfig, config, set_, {"clips": clips, "images": images, "seed": seed})
    with Bars() as bars:
        summary = run(out, settings, bars)
    show(summary, as_json=json)
    return 0
