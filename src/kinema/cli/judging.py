"""The commands that judge: metrics over videos, rankings from votes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from kinema.cli.commands import Config, Json, Sets, app
from kinema.cli.terminal import Bars, show

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
