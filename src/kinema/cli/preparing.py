"""Commands between curation and training: what can be known and done before the first step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from kinema.cli.commands import Dataset, Json, Recipe, Sets, app
from kinema.cli.terminal import Bars, show
from kinema.errors import ConfigError

if TYPE_CHECKING:
    from kinema.train.config import TrainConfig


@app.command(help_epilogue="Example: kinema plan demo --dataset dataset --sheet plan.png")
def plan(
    recipe: Recipe = None,
    /,
    *,
    dataset: Dataset,
    nodes: Annotated[int, Parameter(name="--nodes", help="Machines that train together.")] = 1,
    nproc: Annotated[int, Parameter(name="--nproc", help="Processes of each, one a GPU.")] = 1,
    sheet: Annotated[
        Path | None, Parameter(name="--sheet", help="A picture to draw of what the network will see, .png.")
    ] = None,
    measure: Annotated[
        bool, Parameter(name="--measure", help="Try a step of the heaviest bucket on this machine.")
    ] = True,
    search: Annotated[
        Path | None,
        Parameter(
            name="--search",
            help="Find the batch sizes at which steps of all buckets take equally long; write this recipe.",
        ),
    ] = None,
    memory_gb: Annotated[
        float | None, Parameter(name="--memory-gb", help="What --search may take; what is free if left out.")
    ] = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Say what training would see and take: clips, memory, time by bucket, and what is left out and why."""
    from kinema.config import find_recipe, load_config
    from kinema.train.config import TrainConfig
    from kinema.train.forecast import forecasts
    from kinema.train.launch import training_line
    from kinema.train.planning import as_text, plan_record
    from kinema.train.rehearsal import measure as run_measure
    from kinema.train.rehearsal import sheet_of
    from kinema.train.stages import stages
    from kinema.video.writer import write_image

    if nodes < 1 or nproc < 1:
        raise ConfigError(f"--nodes and --nproc must be at least 1, got {nodes} and {nproc}")
    settings = load_config(TrainConfig, find_recipe(recipe) if recipe else None, set_)
    if search is not None:
        return _search(settings, dataset, search, memory_gb, as_json=json)
    found = forecasts(settings, dataset, nodes * nproc)
    if sheet is not None:
        write_image(sheet, sheet_of(dataset, stages(settings)))
    measured = run_measure(settings, dataset, found) if measure else "not measured, as asked"
    line = training_line(recipe, dataset, set_, nodes, nproc)
    record = plan_record(found, measured) | {"command": line, "sheet": None if sheet is None else str(sheet)}
    text = as_text(found, measured, nodes * nproc, line)
    show(record, as_json=json, text=text if sheet is None else f"{text}\ncontact sheet: {sheet}")
    return 0


def _search(
    config: TrainConfig, dataset: Path, recipe: Path, memory_gb: float | None, *, as_json: bool
) -> int:
    from kinema.config import dump_config
    from kinema.files import write_text
    from kinema.train.search import as_text, search, with_sizes_found

    if memory_gb is not None and not memory_gb > 0:
        raise ConfigError(f"--memory-gb must be above 0, got {memory_gb}")
    with Bars() as bars:
        found = search(config, dataset, bars, None if memory_gb is None else 1024 * memory_gb)
    write_text(recipe, dump_config(with_sizes_found(config, found)))
    text = f"{as_text(found)}\nto train with these: kinema train {recipe} --dataset {dataset}"
    record = {"recipe": str(recipe), "buckets": [one.as_dict() for one in found]}
    show(record, as_json=as_json, text=text)
    return int(any(not one.seconds for one in found))


@app.command(help_epilogue="Example: kinema simulate demo --dataset dataset --world 64 --device h800")
def simulate(
    recipe: Recipe = None,
    /,
    *,
    dataset: Annotated[
        Path | None, Parameter(name="--dataset", help="A folder that kinema curate wrote.")
    ] = None,
    world: Annotated[int, Parameter(help="Processors that train together.")] = 64,
    device: Annotated[
        Literal["h100", "h200", "h800", "a100", "a800", "rtx4090"], Parameter(help="What they are.")
    ] = "h800",
    share: Annotated[
        float | None, Parameter(help="The share of their peak that they reach; 0.16 when left out.")
    ] = None,
    like: Annotated[
        Path | None, Parameter(name="--like", help="Take that share from this run's log (mfu).")
    ] = None,
    steps: Annotated[int, Parameter(help="Steps of each stage that are replayed; all count.")] = 1000,
    check: Annotated[
        bool, Parameter(name="--check", negative=(), help="Predict figures that were published, instead.")
    ] = False,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Say what a recipe would take on processors that are not here, by the real order of its batches."""
    from kinema.config import find_recipe, load_config
    from kinema.simulate import published
    from kinema.simulate.cost import PUBLISHED_SHARE
    from kinema.simulate.devices import DEVICES
    from kinema.simulate.run import Cluster, as_text, share_of
    from kinema.simulate.run import simulate as run
    from kinema.train.config import TrainConfig

    if check:
        compared = published.check(lambda name: load_config(TrainConfig, find_recipe(name)))
        show({"check": published.as_record(compared)}, as_json=json, text=published.as_text(compared))
        return 0
    if dataset is None:
        raise ConfigError("kinema simulate needs --dataset, a folder that kinema curate wrote, or --check")
    if world < 1 or steps < 1:
        raise ConfigError(f"--world and --steps must be at least 1, got {world} and {steps}")
    if share is not None and not 0 < share <= 1:
        raise ConfigError(f"--share must be in (0, 1], got {share}")
    settings = load_config(TrainConfig, find_recipe(recipe) if recipe else None, set_)
    reached = share or (PUBLISHED_SHARE if like is None else share_of(like))
    chosen = next(one for one in DEVICES if one.name == device)
    with Bars() as bars:
        summary = run(settings, dataset, Cluster(device=chosen, world=world, share=reached), steps, bars)
    show(summary, as_json=json, text=as_text(summary))
    return 0


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
