"""The commands that train: alone, in many processes, and what looks into a run afterwards."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kinema.cli.commands import Json, Recipe, Sets, app
from kinema.cli.terminal import Bars, show
from kinema.errors import ConfigError

if TYPE_CHECKING:
    from kinema.train.config import TrainConfig


_MOST_NAMES = 6

Engine = Annotated[
    Literal["local", "ray"] | None,
    Parameter(name="--engine", help="Processes of this machine, or the workers of a Ray cluster."),
]


@app.command(help_epilogue="Example: kinema train demo --dataset dataset --out run --set steps=2000")
def train(
    recipe: Recipe = None,
    /,
    *,
    dataset: Annotated[
        Path | None, Parameter(name="--dataset", help="A folder that kinema curate wrote.")
    ] = None,
    out: Annotated[
        Path | None, Parameter(name="--out", help="The folder of the run: model, checkpoints, metrics.")
    ] = None,
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
    engine: Engine = None,
    overfit_one: Annotated[
        bool,
        Parameter(
            name="--overfit-one", negative=(), help="Learn one clip by heart, and show how near it comes."
        ),
    ] = False,
    clip: Annotated[str, Parameter(name="--clip", help="The id of that clip; the first when left out.")] = "",
    replay: Annotated[
        Path | None,
        Parameter(name="--replay", help="Do a failed step again: a file in the run's folder failed/."),
    ] = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Train a model on a dataset."""
    from kinema.config import find_recipe, load_config
    from kinema.train.config import TrainConfig

    if replay is not None:
        return _replay(replay, set_, json=json)
    if dataset is None or out is None:
        raise ConfigError("kinema train needs --dataset, a folder that kinema curate wrote, and --out")
    settings = load_config(TrainConfig, find_recipe(recipe) if recipe else None, set_)
    if overfit_one:
        return _overfit(settings, dataset, out, clip, json=json)
    if nproc is not None and nproc < 1:
        raise ConfigError(f"--nproc must be at least 1, got {nproc}")
    settings.parallel.shards(nproc or int(os.environ.get("WORLD_SIZE", "1")))
    if engine == "ray":
        from kinema.train.ray_engine import train_on_ray

        show(train_on_ray(settings, dataset, out, nproc or 1, resume=resume), as_json=json)
        return 0
    if nproc is not None:
        return _launch(recipe, dataset, out, nproc, resume=resume, sets=set_, json=json)
    return _train(settings, dataset, out, resume=resume, json=json)


@app.command(help_epilogue="Example: kinema average run --decay 0.999 --out model")
def average(
    run: Annotated[Path, Parameter(help="The folder of a run with several averages (ema_also).")],
    /,
    *,
    decay: Annotated[float, Parameter(name="--decay", help="Which one: its decay.")],
    out: Annotated[Path, Parameter(name="--out", help="The model folder to write.")],
    json: Json = False,
) -> int:
    """Make a model of a run with another of the averages of its weights."""
    from kinema.train.averages import choose_average

    show(choose_average(run, decay, out), as_json=json)
    return 0


def _train(settings: TrainConfig, dataset: Path, out: Path, *, resume: bool, json: bool) -> int:
    """In this process, alone or as one that was launched."""
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


def _overfit(settings: TrainConfig, dataset: Path, out: Path, clip: str, *, json: bool) -> int:
    from kinema.train.overfit import overfit_one

    with Bars() as bars:
        result = overfit_one(settings, dataset, out, bars, clip)
    show(result, as_json=json)
    return int(not result["learned"])


def _replay(file: Path, sets: Sets, *, json: bool) -> int:
    from kinema.config import load_config
    from kinema.train.config import TrainConfig
    from kinema.train.replay import read_failure, replay

    config = load_config(TrainConfig, read_failure(file).run / "resolved.toml", sets)
    found = replay(config, file)
    brief = found | {"not_finite": _brief(found["not_finite"])}
    show(found if json else brief, as_json=json)
    return 0


def _brief(names: list[str]) -> list[str]:
    more = len(names) - _MOST_NAMES
    return [*names[:_MOST_NAMES], f"and {more} more"] if more > 0 else names
