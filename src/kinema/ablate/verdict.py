"""From votes to a recommendation: which fraction to drop, at which score that cuts, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from kinema.ablate.arms import ALL, Arm
from kinema.evaluate.bradley_terry import ELO_PER_NATURAL, fit_counts
from kinema.evaluate.intervals import bootstrap_groups
from kinema.evaluate.preference import CENTRE, DisconnectedVotesError, PreferenceConfig, rank
from kinema.evaluate.tally import tally
from kinema.evaluate.votes import Vote

OVERALL = "both axes"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An arm in its study; `interval` is of its rating under resampled prompts. `best` is the share of
    resampled prompts in which it ranks first; `not_worse` says that its gap to the best arm is not told from
    0 at the confidence asked for."""

    arm: str
    words: str
    clips: int
    fraction: float | None
    threshold: float | None
    rating: float
    interval: tuple[float, float]
    by_axis: dict[str, float]
    best: float
    not_worse: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A study's arms in order of rating, best first, and what follows; `votes` 0 and no standing without
    any."""

    study: str
    votes: int
    standings: tuple[Standing, ...]
    recommendation: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_study(study: str, arms: Sequence[Arm], votes: Sequence[Vote], config: PreferenceConfig) -> Verdict:
    """Rank the arms by the votes between them, over both axes together."""
    names = {arm.name for arm in arms}
    own = [vote for vote in votes if {vote.model_a, vote.model_b} <= names]
    if not own:
        return Verdict(study=study, votes=0, standings=(), recommendation="no votes yet")
    try:
        ranked = rank(own, config, sorted(names), source=study)
        axes = {axis: _ratings(own, axis, names, config) for axis in sorted({vote.axis for vote in own})}
    except DisconnectedVotesError as error:
        told = f"more votes are needed: {error}"
        return Verdict(study=study, votes=len(own), standings=(), recommendation=told)
    rating = {row["model"]: row["davidson"] for row in ranked["models"]}
    resampled = resample_prompts(own, sorted(names), config)
    best = max(rating, key=lambda name: rating[name])
    shares = _shares_best(resampled, sorted(names))
    close = _not_told_apart(resampled, sorted(names), best, config.confidence)
    intervals = _intervals(resampled, sorted(names), config.confidence)
    found = [
        Standing(
            arm=arm.name,
            words=arm.words,
            clips=len(arm.clips),
            fraction=arm.fraction,
            threshold=arm.threshold,
            rating=rating[arm.name],
            interval=intervals[arm.name],
            by_axis={axis: ratings[arm.name] for axis, ratings in axes.items()},
            best=shares[arm.name],
            not_worse=arm.name in close,
        )
        for arm in arms
    ]
    found.sort(key=lambda standing: -standing.rating)
    return Verdict(
        study=study, votes=len(own), standings=tuple(found), recommendation=recommend(study, found)
    )


def _ratings(votes: Sequence[Vote], axis: str, names: set[str], config: PreferenceConfig) -> dict[str, float]:
    own = [vote for vote in votes if vote.axis == axis]
    return {row["model"]: row["davidson"] for row in rank(own, config, sorted(names), source=axis)["models"]}


def _intervals(
    theta: Float[np.ndarray, "r m"], names: Sequence[str], confidence: float
) -> dict[str, tuple[float, float]]:
    tail = (1 - confidence) / 2
    low, high = CENTRE + ELO_PER_NATURAL * np.quantile(theta, [tail, 1 - tail], axis=0)
    return {name: (float(low[place]), float(high[place])) for place, name in enumerate(names)}


def resample_prompts(
    votes: Sequence[Vote], names: Sequence[str], config: PreferenceConfig
) -> Float[np.ndarray, "r m"]:
    """Strengths under resampled prompts, each with all its votes: what other prompts might have said."""
    counted = tally(votes, names)
    generator = np.random.default_rng(config.seed)
    counts = bootstrap_groups(votes, counted, [vote.prompt for vote in votes], config.bootstraps, generator)
    return fit_counts(counts, counted.pairs, len(counted.models)).theta


def _shares_best(theta: Float[np.ndarray, "r m"], names: Sequence[str]) -> dict[str, float]:
    first = np.bincount(theta.argmax(axis=1), minlength=len(names)) / len(theta)
    return dict(zip(names, first.tolist(), strict=True))


def _not_told_apart(
    theta: Float[np.ndarray, "r m"], names: Sequence[str], best: str, confidence: float
) -> set[str]:
    gaps = theta[:, [names.index(best)]] - theta
    low = np.quantile(gaps, (1 - confidence) / 2, axis=0)
    return {name for name, bound in zip(names, low, strict=True) if bound <= 0 or name == best}


def recommend(study: str, standings: Sequence[Standing]) -> str:
    """One or two sentences; says plainly where the votes do not decide."""
    best = standings[0]
    others = [standing for standing in standings[1:] if standing.not_worse]
    sure = f"first in {best.best:.0%} of resampled prompts"
    if best.fraction is None:
        what = f"take {best.words}" if best.arm != ALL else "keep all clips"
    elif best.fraction == 0:
        what = "drop nothing"
    else:
        what = f"{best.words}, a threshold of {_number(best.threshold)}"
    if not others:
        return f"{study}: {what} ({sure}; every other arm is told apart from it)"
    alike = ", ".join(_named(standing) for standing in others)
    return f"{study}: {what} ({sure}); the votes do not tell it from {alike}{_range([best, *others])}"


def _named(standing: Standing) -> str:
    return standing.words if standing.fraction is None else f"{100 * standing.fraction:g} %"


def _range(close: Sequence[Standing]) -> str:
    """The thresholds among which the votes leave the choice."""
    cuts = sorted(standing.threshold for standing in close if standing.threshold is not None)
    return f"; thresholds from {_number(cuts[0])} to {_number(cuts[-1])} are open" if len(cuts) > 1 else ""


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"
