"""The command that trains: alone, or in many processes."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.commands import Dataset, Json, Recipe, Sets, app
from kinema.cli.terminal import Bars, show
from kinema.errors import ConfigError


@app.command(help_epilogue="Example: kinema train demo --dataset dataset --out run --set steps=2000")
def train(
    recipe: Recipe = None,
    /,
    *,
    dataset: Dataset,
    out: Annotated[
        Path, Parameter(name="--out", help="The folder of the run: model, checkpoints, samples, metrics.")
    ],
    resume: Annotated[
        bool,
        Parameter(
            name="--resume", negative=(), help="Go on from the last checkpoint in the folder of the run."
        ),
    ] = False,
    nproc: Annotated[
        int | None,
        Parameter(name="--nproc", help="Processes of this machine that train together, one a GPU."),
    ] = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Train a model on a dataset."""
    from kinema.config import find_recipe, load_config
    from kinema.train.config import TrainConfig

    settings = load_config(TrainConfig, find_recipe(recipe) if recipe else None, set_)
    if nproc is not None:
        if nproc < 1:
            raise ConfigError(f"--nproc must be at least 1, got {nproc}")
        settings.parallel.shards(nproc)
        return _launch(recipe, dataset, out, nproc, resume=resume, sets=set_, json=json)
    from kinema.train.launch import tell_launcher
    from kinema.train.loop import train as run

    speaks = os.environ.get("RANK", "0") == "0"
    try:
        with Bars() if speaks else nullcontext() as bars:
            summary = run(settings, dataset, out, resume, bars)
    except BaseException as error:
        tell_launcher(error)
        raise
    if speaks:
        show(summary, as_json=json)
    return 0


def _launch(
    recipe: str | None, dataset: Path, out: Path, processes: int, *, resume: bool, sets: Sets, json: bool
) -> int:
    from kinema.train.launch import launch

    words = ["train", *([recipe] if recipe else []), "--dataset", str(dataset), "--out", str(out)]
    words += ["--resume"] * resume + ["--json"] * json
    words += [word for one in sets for word in ("--set", one)]
    sys.stdout.flush()
    launch(words, processes, out)
    return 0
