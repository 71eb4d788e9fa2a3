"""The commands of the embedded model: its world rendered as a dataset, and a trained model packed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

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


@app.command(help_epilogue="Example: kinema pack run --out model")
def pack(
    run: Annotated[Path, Parameter(help="A model folder, or the folder of a training run.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The model folder to write.")],
    phrases: Annotated[
        str | None,
        Parameter(name="--phrases", help="Other words for what it knows: a JSON object in a file, or world."),
    ] = None,
    grain: Annotated[
        int | None,
        Parameter(
            name="--grain",
            help="Round the network's matrices to this many steps a standard deviation; 10 halves a zip.",
            validator=validators.Number(gte=1),
        ),
    ] = None,
    lora: Annotated[
        Path | None,
        Parameter(name="--lora", help="A LoRA to keep beside the weights; the model then always has it."),
    ] = None,
    json: Json = False,
) -> int:
    """Write a small copy of a model to hand on: averaged weights, in half precision."""
    from kinema.checkpoint import read_json
    from kinema.encoders.grammar import Language
    from kinema.model import model_hash, pack_model
    from kinema.world.wording import LANGUAGE

    told = None if phrases is None else LANGUAGE if phrases == "world" else Language(read_json(Path(phrases)))
    pack_model(run, out, told, grain, lora)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    show({"out": str(out), "bytes": size, "sha256": model_hash(out)}, as_json=json)
    return 0
