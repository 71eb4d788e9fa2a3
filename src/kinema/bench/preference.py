"""How long ranking takes: 20,000 votes of 10 models, beside evalica where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from kinema.bench.figures import Figure, interleaved, report
from kinema.evaluate.bradley_terry import fit
from kinema.evaluate.elo import elo
from kinema.evaluate.intervals import bootstrap, bootstrap_counts, contrasts_to_mean, profile_intervals
from kinema.evaluate.preference import simulate_votes
from kinema.evaluate.tally import tally
from kinema.evaluate.votes import Vote


def run() -> dict[str, Any]:
    """What `kinema bench preference` prints."""
    return bench_preference()


def bench_preference(
    votes: int = 20_000, models: int = 10, bootstraps: int = 1000, rounds: int = 5
) -> dict[str, Any]:
    """Seconds for counting and fitting, bootstrapping, exact intervals and Elo, on simulated votes."""
    cast = simulate_votes(votes, np.linspace(-1, 1, models), 0.5, np.random.default_rng(0))
    counted = tally(cast)
    generator = np.random.default_rng(0)
    tasks: dict[str, Callable[[], object]] = {
        "fit Davidson": lambda: fit(tally(cast)),
        "fit Bradley-Terry": lambda: fit(tally(cast), "half"),
        "bootstraps": lambda: bootstrap(bootstrap_counts(counted, bootstraps, generator), counted),
        "exact intervals": lambda: profile_intervals(counted, contrasts_to_mean(models)),
        "Elo over 1000 orders": lambda: elo(cast, counted.models),
    }
    tasks |= _evalica_tasks(cast) if find_spec("evalica") else {}
    seconds = interleaved(tasks, rounds)
    targets = {"fit Davidson": 0.1, "fit Bradley-Terry": 0.1, "bootstraps": 5.0}
    figures = [_figure(name, seconds, targets.get(name)) for name in tasks if not name.startswith("evalica ")]
    return report("preference", figures)


def _figure(name: str, seconds: dict[str, float], target: float | None) -> Figure:
    peer_value = seconds.get(f"evalica {name}")
    return Figure(
        name=name,
        value=seconds[name],
        unit="s",
        peer="evalica" if peer_value else None,
        peer_value=peer_value,
        target=target,
        bounds="value",
        better="lower",
    )


def _evalica_tasks(cast: list[Vote]) -> dict[str, Callable[[], object]]:
    evalica = import_module("evalica")
    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    first, second = [vote.model_a for vote in cast], [vote.model_b for vote in cast]
    outcomes = [winner[vote.outcome] for vote in cast]
    return {
        "evalica fit Davidson": lambda: evalica.newman(first, second, outcomes),
        "evalica fit Bradley-Terry": lambda: evalica.bradley_terry(first, second, outcomes),
    }
