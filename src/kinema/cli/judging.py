"""The commands that judge: metrics over videos, rankings from votes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from kinema.cli.commands import Config, Json, Sets, app
from kinema.cli.terminal import Bars, show
from kinema.errors import ConfigError

arena = App(
    name="arena",
    help="Human preferences: rank models from pairwise votes.",
    help_epilogue="Example: kinema arena fit votes.csv --json",
    help_format="plaintext",
)
app.command(arena)


@app.command(help_epilogue="Example: kinema evaluate samples --against dataset --out report")
def evaluate(
    videos: Annotated[Path, Parameter(help="A folder of videos, one video, or a dataset folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(name="--out", help="The folder for the report.")],
    against: Annotated[
        Path | None, Parameter(name="--against", help="Videos or a dataset to compare with.")
    ] = None,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Measure videos, alone or against others, and write the figures as JSON, Markdown and plots."""
    from kinema.config import load_config
    from kinema.evaluate.metrics import EvaluateConfig
    from kinema.evaluate.metrics import evaluate as run

    settings = load_config(EvaluateConfig, config, set_)
    with Bars() as bars:
        summary = run(videos, against, out, settings, bars)
    show(summary, as_json=json)
    return int(bool(summary["skipped"]))


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
