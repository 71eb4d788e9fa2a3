"""Commands between curation and training: what can be known and done before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kinema.cli.commands import Dataset, Json, Recipe, Sets, app
from kinema.cli.terminal import Bars, show


@app.command(help_epilogue="Example: kinema cache demo --dataset dataset --set data.windows=1")
def cache(
    recipe: Recipe = None,
    /,
    *,
    dataset: Dataset,
    model: Annotated[
        Path | None, Parameter(name="--model", help="Take the encoders of this model or run.")
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], Parameter(help="Processes of this machine, or a Ray cluster.")
    ] = "local",
    workers: Annotated[
        int | None, Parameter(help="Processes, 0 for this one; the processors when left out.")
    ] = None,
    prune: Annotated[
        bool,
        Parameter(name="--prune", negative=(), help="Remove what other encoders made and no run is using."),
    ] = False,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Encode clips and captions ahead of training, so that it reads bytes only; goes on where it ended."""
    from kinema.caching.build import Crew, build_caches
    from kinema.caching.build import prune as run_prune
    from kinema.config import find_recipe, load_config
    from kinema.train.config import TrainConfig

    settings = load_config(TrainConfig, find_recipe(recipe) if recipe else None, set_)
    with Bars() as bars:
        summary = build_caches(settings, dataset, Crew(engine=engine, workers=workers), bars, model)
    if prune:
        summary["pruned"] = run_prune(settings, dataset, summary)
    show(summary, as_json=json)
    return int(any(summary[name]["failed"] or summary[name]["full"] for name in ("latents", "embeddings")))
