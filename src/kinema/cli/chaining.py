"""The command that trains several models, one on top of the other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kinema.cli.commands import Dataset, Json, app
from kinema.cli.terminal import Bars, show, tell
from kinema.errors import ConfigError

if TYPE_CHECKING:
    from kinema.chain.config import ChainRun
    from kinema.train.config import TrainConfig


@app.command(help_epilogue="Example: kinema chain svd-small --dataset dataset --with orbits=orbits --out svd")
def chain(
    chain: Annotated[
        str, Parameter(help="A TOML file, or the name of a chain that comes with kinema: svd-small.")
    ],
    /,
    *,
    dataset: Dataset,
    out: Annotated[
        Path, Parameter(name="--out", help="The folder for all runs, one in each of its folders.")
    ],
    with_: Annotated[
        tuple[str, ...],
        Parameter(name="--with", negative=(), help="NAME=FOLDER of another dataset that the chain names."),
    ] = (),
    share: Annotated[float, Parameter(name="--share", help="The share of all steps that is made.")] = 1.0,
    plan: Annotated[
        bool, Parameter(name="--plan", negative=(), help="Only say what it would train.")
    ] = False,
    json: Json = False,
) -> int:
    """Train a tree of models from one file; the same command again goes on where it was stopped."""
    from kinema.chain.config import ChainConfig
    from kinema.chain.run import plan_chain, run_chain
    from kinema.config import find_recipe, load_config

    settings = load_config(ChainConfig, find_recipe(chain, "chain"))
    others = dict(_named(given) for given in with_)
    planned = plan_chain(settings, _recipe, dataset, out, others=others, share=share)
    for name, why in planned.left_out.items():
        tell(f"left out: {name}: {why}")
    if plan:
        show(planned.as_dict(), as_json=json)
        return 0
    with Bars() as bars:
        summary = run_chain(planned, bars)
    show(summary, as_json=json)
    return int(bool(summary["left_out"]))


def _recipe(run: ChainRun) -> TrainConfig:
    from kinema.config import find_recipe, load_config
    from kinema.train.config import TrainConfig

    # A LoRA is laid on a model: that the chain names it is known only now.
    base = {"start_from": Path(run.start_from)} if run.start_from else None
    return load_config(TrainConfig, find_recipe(run.recipe), run.changes, base)


def _named(given: str) -> tuple[str, Path]:
    name, equals, folder = given.partition("=")
    if not name or not equals or not folder:
        raise ConfigError(f"--with {given}: expected NAME=FOLDER, for example orbits=orbits")
    return name, Path(folder)
