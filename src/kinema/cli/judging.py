"""The commands that judge: metrics over videos, rankings from votes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from kinema.cli.commands import Config, Dataset, Json, Sets, app
from kinema.cli.terminal import Bars, show, tell
from kinema.errors import ConfigError

arena = App(
    name="arena",
    help="Human preferences: rank models from pairwise votes.",
    help_epilogue="Example: kinema arena fit votes.csv --json",
    help_format="plaintext",
)
app.command(arena)


Protocol = Annotated[
    str | None,
    Parameter(name="--config", help="A TOML file, or the name of a protocol that comes with kinema: ucf101."),
]


@app.command(help_epilogue="Example: kinema evaluate samples --against dataset --out report")
def evaluate(
    videos: Annotated[Path, Parameter(help="A folder of videos, one video, or a dataset folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The folder for the report.")],
    against: Annotated[
        Path | None, Parameter(name="--against", help="Videos or a dataset to compare with.")
    ] = None,
    vbench: Annotated[
        Path | None, Parameter(name="--vbench", help="Also export the videos in VBench's layout, here.")
    ] = None,
    config: Protocol = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Measure videos, alone or against others, and write the figures as JSON, Markdown and plots."""
    from kinema.config import find_recipe, load_config
    from kinema.evaluate.metrics import EvaluateConfig
    from kinema.evaluate.metrics import evaluate as run
    from kinema.evaluate.vbench import export_vbench

    settings = load_config(EvaluateConfig, find_recipe(config, "protocol") if config else None, set_)
    with Bars() as bars:
        summary = run(videos, against, out, settings, bars)
    if vbench is not None:
        summary |= {"vbench": export_vbench(videos, vbench)}
    show(summary, as_json=json)
    return int(bool(summary["skipped"]))


@app.command(help_epilogue="Example: kinema prompts UCF-101 --out ucf101.csv --videos 2048")
def prompts(
    source: Annotated[
        Path,
        Parameter(help="Videos in one folder a class, a dataset (its captions), or VBench's list (.json)."),
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The table to write, .csv.")],
    videos: Annotated[
        int | None, Parameter(name="--videos", help="So many in all; the share of each prompt is kept.")
    ] = None,
    each: Annotated[int | None, Parameter(name="--each", help="So many videos of every prompt.")] = None,
    seed: Annotated[int, Parameter(name="--seed", help="That of the first row; each next is one more.")] = 0,
    json: Json = False,
) -> int:
    """Write the prompts of a protocol as a table for kinema generate --prompts: a row a video to make."""
    from kinema.evaluate.prompt_lists import write_prompts

    show(write_prompts(source, out, videos=videos, each=each, seed=seed), as_json=json)
    return 0


@app.command(help_epilogue="Example: kinema between between-run --dataset held-out")
def between(
    model: Annotated[Path, Parameter(help="A model of interpolation.")],
    /,
    *,
    dataset: Dataset,
    batches: Annotated[int, Parameter(name="--batches", help="Of eight clips each.")] = 8,
    steps: Annotated[
        int, Parameter(name="--steps", help="Of the sampler; 1 gives the mean, the best PSNR.")
    ] = 1,
    resolution: Annotated[str, Parameter(name="--resolution", help="As in a bucket.")] = "64px",
    json: Json = False,
) -> int:
    """Say how well a model finds the frames between two, beside a linear blend of them: PSNR in dB."""
    from kinema.evaluate.between import compare_between

    with Bars() as bars:
        found = compare_between(
            model, dataset, batches=batches, steps=steps, resolution=resolution, progress=bars
        )
    show(found, as_json=json)
    return 0


@app.command(help_epilogue="Example: kinema views orbits-run --dataset held-out-orbits --set clip=clip-vit-l")
def views(
    model: Annotated[Path, Parameter(help="A model that goes around objects.")],
    /,
    *,
    dataset: Annotated[
        Path, Parameter(name="--dataset", help="Orbits of objects that it was not trained on.")
    ],
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Say how near a model's views of objects come to the true ones: PSNR, SSIM, and LPIPS and CLIP score."""
    from kinema.config import load_config
    from kinema.evaluate.orbits import OrbitsConfig, compare_orbits

    settings = load_config(OrbitsConfig, None, set_)
    with Bars() as bars:
        found = compare_orbits(model, dataset, settings, bars)
    show(found, as_json=json)
    return 0


@app.command(help_epilogue="Example: kinema compare report-a report-b --json")
def compare(
    *reports: Annotated[Path, Parameter(help="Folders or evaluation.json files of kinema evaluate.")],
    json: Json = False,
) -> int:
    """Set evaluations side by side; those that were not measured alike are refused."""
    from kinema.evaluate.protocol import compare_results
    from kinema.evaluate.report import comparison_text

    if len(reports) < 2:
        raise ConfigError("give two reports or more, for example: kinema compare report-a report-b")
    files = [path / "evaluation.json" if path.is_dir() else path for path in reports]
    summary = compare_results(files)
    show(summary, as_json=json, text=comparison_text(summary))
    return 0


@app.command(help_epilogue="Example: kinema features ~/Videos --out features.safetensors")
def features(
    *footage: Annotated[Path, Parameter(help="Videos, or folders of them.")],
    out: Annotated[Path, Parameter(name="--out", help="The weights to write, .safetensors.")],
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Train the small network on whose features distances are measured, on footage of your own."""
    from kinema.config import load_config
    from kinema.evaluate.feature_training import FeatureTrainingConfig, train_features

    if not footage:
        raise ConfigError("no footage is given, for example: kinema features ~/Videos --out own.safetensors")
    settings = load_config(FeatureTrainingConfig, config, set_)
    with Bars() as bars:
        summary = train_features(footage, out, settings, bars)
    show(summary, as_json=json)
    return 0


@app.command(help_epilogue="Example: kinema ablate small --dataset dataset --out ablation --plan")
def ablate(
    ablation: Annotated[
        str, Parameter(help="A TOML file, or the name of an ablation that comes with kinema: small.")
    ],
    /,
    *,
    dataset: Dataset,
    out: Annotated[Path, Parameter(name="--out", help="The folder for everything that is made.")],
    plan: Annotated[
        bool, Parameter(name="--plan", negative=(), help="Only say what it would make and cost.")
    ] = False,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Train a model for each way to filter a dataset, let them be compared, and recommend thresholds."""
    from kinema.ablate.config import AblationConfig
    from kinema.ablate.run import plan_ablation, run_ablation
    from kinema.config import find_recipe, load_config

    settings = load_config(AblationConfig, find_recipe(ablation, "ablation"), set_)
    with Bars() as bars:
        planned = plan_ablation(settings, dataset, out, bars)
        for name, why in planned.design.left_out.items():
            tell(f"left out: {name}: {why}")
        tell(planned.cost.as_text())
        if not plan:
            summary = run_ablation(planned, bars)
    if plan:
        show(planned.as_dict(), as_json=json)
        return 0
    show(summary, as_json=json)
    return int(bool(summary["left_out"]))


@arena.command(help_epilogue="Example: kinema arena fit votes.csv --json")
def fit(
    votes: Annotated[
        Path, Parameter(help="CSV with model_a, model_b and outcome (a, b, tie, both_bad), or a vote store.")
    ],
    /,
    *,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Rank models from votes: Davidson and Bradley-Terry strengths with intervals, and Elo."""
    from kinema.config import load_config
    from kinema.evaluate.preference import PreferenceConfig, fit_votes
    from kinema.evaluate.report import ranking_text

    summary = fit_votes(votes, load_config(PreferenceConfig, config, set_))
    show(summary, as_json=json, text=ranking_text(summary))
    return 0


@arena.command(
    help_epilogue="Example: kinema arena create raw=samples/raw curated=samples/curated --out arena"
)
def create(
    *models: Annotated[
        str,
        Parameter(help="NAME=FOLDER: a model and its videos, each with a sidecar that states the prompt."),
    ],
    out: Annotated[Path, Parameter(name="--out", help="The arena's folder; its votes are kept.")],
    title: Annotated[str, Parameter(name="--title", help="What is compared.")] = "Which is better?",
    json: Json = False,
) -> int:
    """Set the videos of two models or more against each other, for people to vote on in kinema studio."""
    from kinema.evaluate.arena import create_arena

    samples = dict(_named_folder(given) for given in models)
    made = create_arena(out, title, samples)
    summary = {
        "out": str(out),
        "models": list(made.models),
        "prompts": len(made.prompts),
        "videos": len(made.videos),
        "questions": len(made.questions()),
    }
    show(summary, as_json=json)
    return 0


@arena.command(
    help_epilogue="Example: kinema arena plan votes.csv; before any vote: kinema arena plan --gap 50"
)
def plan(
    votes: Annotated[Path | None, Parameter(help="CSV or vote store, as for kinema arena fit.")] = None,
    /,
    *,
    models: Annotated[
        tuple[str, ...], Parameter(name="--models", help="Only pairs of these.", consume_multiple=True)
    ] = (),
    gap: Annotated[float | None, Parameter(name="--gap", help="Without votes: the Elo gap to find.")] = None,
    tie_rate: Annotated[
        float, Parameter(name="--tie-rate", help="With --gap: the share of ties between equals.")
    ] = 0.25,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Say how many more votes would separate two models."""
    from kinema.config import load_config
    from kinema.evaluate.questions import PlanConfig, plan_gap, plan_votes
    from kinema.evaluate.report import plan_text

    settings = load_config(PlanConfig, config, set_)
    if (votes is None) == (gap is None):
        raise ConfigError("give either votes or --gap, for example: kinema arena plan --gap 50")
    if gap is not None:
        show(plan_gap(gap, tie_rate, settings), as_json=json)
        return 0
    assert votes is not None
    summary = plan_votes(votes, models, settings)
    show(summary, as_json=json, text=plan_text(summary))
    return 0


@arena.command(help_epilogue="Example: kinema arena pairs votes.csv --count 5")
def pairs(
    votes: Annotated[Path, Parameter(help="CSV or vote store, as for kinema arena fit.")],
    /,
    *,
    count: Annotated[int, Parameter(name="--count", help="How many pairs.")] = 3,
    models: Annotated[
        tuple[str, ...],
        Parameter(name="--models", help="Models that have no votes yet.", consume_multiple=True),
    ] = (),
    json: Json = False,
) -> int:
    """Name the pairs to ask about next: those whose votes are expected to tell most."""
    from kinema.evaluate.questions import ask_next

    summary = ask_next(votes, count, models)
    lines = [
        f"{axis}: {first} against {second}"
        for axis, found in summary["axes"].items()
        for first, second in found
    ]
    show(summary, as_json=json, text="\n".join(lines))
    return 0


@arena.command(help_epilogue="Example: kinema arena agreement votes.csv --json")
def agreement(
    votes: Annotated[Path, Parameter(help="CSV with a column voter, or a vote store.")],
    /,
    *,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Say how far voters agree with each other: Krippendorff's alpha with its interval."""
    from kinema.config import load_config
    from kinema.evaluate.preference import PreferenceConfig
    from kinema.evaluate.questions import voters_agree

    show(voters_agree(votes, load_config(PreferenceConfig, config, set_)), as_json=json)
    return 0


def _named_folder(given: str) -> tuple[str, Path]:
    name, equals, folder = given.partition("=")
    if not name or not equals or not folder:
        raise ConfigError(f"{given}: expected NAME=FOLDER, for example curated=samples-curated")
    return name, Path(folder)
