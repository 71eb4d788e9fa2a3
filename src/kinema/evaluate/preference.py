"""Human preferences to a ranking: Elo, Bradley-Terry and Davidson with intervals, agreement and a plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinema.evaluate.agreement import agreement
from kinema.evaluate.bradley_terry import ELO_PER_NATURAL, Strengths, fit
from kinema.evaluate.elo import EloConfig, elo
from kinema.evaluate.intervals import (
    bootstrap,
    bootstrap_counts,
    bootstrap_voters,
    contrasts_to_mean,
    profile_intervals,
)
from kinema.evaluate.planning import next_pairs, plan_pairs
from kinema.evaluate.tally import FIRST, SECOND, TIE, Tally, groups, tally
from kinema.evaluate.votes import Vote, VoteError, read_votes, scored_votes

CENTRE = 1000.0


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """`resample` "votes" treats votes as independent, "voters" resamples people with all their votes."""

    confidence: float = 0.95
    bootstraps: int = 1000
    elo_orders: int = 1000
    power: float = 0.8
    resample: str = "votes"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or not 0 < self.power < 1:
            raise ValueError(f"confidence and power must be in (0, 1), got {self.confidence}, {self.power}")
        if self.bootstraps < 0 or self.elo_orders < 1:
            raise ValueError("bootstraps must be >= 0 and elo_orders >= 1")
        if self.resample not in ("votes", "voters"):
            raise ValueError(f'resample must be "votes" or "voters", got {self.resample!r}')


class DisconnectedVotesError(VoteError):
    """Votes that leave groups of models without a comparison between them; `apart` lists the groups."""

    def __init__(self, source: str, axis: str, apart: list[list[str]]) -> None:
        self.apart = apart
        named = "; ".join(", ".join(group) for group in apart)
        super().__init__(
            f"{source}: axis {axis}: no vote compares these groups of models with each other: {named}. "
            f"Add votes between them, for example {apart[0][0]} against {apart[1][0]}"
        )


def fit_votes(path: Path, config: PreferenceConfig | None = None) -> dict[str, Any]:
    """Rank the models of a vote file, by axis. The result is plain JSON data; ratings are on the Elo scale.

    Raises `VoteError` for a file, row or vote graph that cannot be ranked.
    """
    votes, excluded = scored_votes(read_votes(path))
    if not votes:
        raise VoteError(f"{path}: no votes to count; add rows, or check voters who failed attention checks")
    axes = sorted({vote.axis for vote in votes})
    return {
        "votes_file": str(path),
        "votes": len(votes),
        "excluded_voters": list(excluded),
        "axes": {
            axis: rank([vote for vote in votes if vote.axis == axis], config, source=str(path))
            for axis in axes
        },
    }


def rank(
    votes: Sequence[Vote],
    config: PreferenceConfig | None = None,
    models: Sequence[str] = (),
    source: str = "votes",
) -> dict[str, Any]:
    """Rank one axis. `models` adds models without votes; a single model is rated 1000."""
    config = config or PreferenceConfig()
    counted = tally(votes, models)
    apart = groups(counted)
    if len(apart) > 1:
        raise DisconnectedVotesError(source, votes[0].axis if votes else "any", apart)
    if not apart:
        raise VoteError(f"{source}: no models and no votes to rank")
    if len(counted.models) == 1:
        return {"votes": 0, "models": [{"model": counted.models[0], "rank": 1, "davidson": CENTRE}]}
    strengths = fit(counted)
    generator = np.random.default_rng(config.seed)
    return {
        "votes": len(votes),
        "tie_rate": float(counted.counts[:, TIE].sum() / len(votes)),
        "both_bad_rate": float(counted.both_bad.sum() / len(votes)),
        "tie_parameter": float(np.exp(strengths.eta[0])),
        **_ratings(votes, counted, strengths, config, generator),
        "pairs": _pairs(counted, strengths, config),
        "next_pairs": [list(pair) for pair in next_pairs(counted, strengths, 3)],
        "agreement": asdict(agreement(votes, generator, config.bootstraps, config.confidence)),
        "method": asdict(config),
        "warnings": _warnings(counted, strengths),
    }


def _ratings(
    votes: Sequence[Vote],
    counted: Tally,
    strengths: Strengths,
    config: PreferenceConfig,
    generator: np.random.Generator,
) -> dict[str, Any]:
    played = elo(votes, counted.models, EloConfig(orders=config.elo_orders, seed=config.seed))
    half = CENTRE + ELO_PER_NATURAL * fit(counted, "half").theta[0]
    rating = CENTRE + ELO_PER_NATURAL * strengths.theta[0]
    exact = profile_intervals(counted, contrasts_to_mean(len(counted.models)), "davidson", config.confidence)
    sampled, corrected = _bootstrap(votes, counted, config, generator)
    record = _record(counted)
    rows: list[dict[str, Any]] = [
        {
            "model": name,
            "rank": 1 + int((rating > rating[m] + 1e-9).sum()),
            "elo": float(played[:, m].mean()),
            "elo_spread_over_orders": float(played[:, m].std()),
            "bradley_terry": float(half[m]),
            "davidson": float(rating[m]),
            "exact_interval": [_on_scale(end) for end in exact[m]],
            "bootstrap_interval": None if sampled is None else [_on_scale(end) for end in sampled[m]],
            **record[m],
        }
        for m, name in enumerate(counted.models)
    ]
    return {
        "models": sorted(rows, key=lambda row: (row["rank"], row["model"])),
        "bootstraps_corrected": corrected,
    }


def _bootstrap(
    votes: Sequence[Vote], counted: Tally, config: PreferenceConfig, generator: np.random.Generator
) -> tuple[np.ndarray[Any, Any] | None, float]:
    if config.bootstraps == 0:
        return None, 0.0
    if config.resample == "voters":
        if len({vote.voter for vote in votes}) < 2:
            raise VoteError("resampling voters needs votes of two or more voters; add a voter column")
        resampled = bootstrap_voters(votes, counted, config.bootstraps, generator)
    else:
        resampled = bootstrap_counts(counted, config.bootstraps, generator)
    return bootstrap(resampled, counted, "davidson", config.confidence)


def _on_scale(theta: float) -> float | None:
    """Elo scale; None where the votes set no limit on that side."""
    return float(CENTRE + ELO_PER_NATURAL * theta) if np.isfinite(theta) else None


def _record(counted: Tally) -> list[dict[str, int]]:
    """Votes, wins, losses and ties of every model."""
    table = np.zeros((len(counted.models), 4))
    first, second = counted.pairs.T
    forward, backward = [FIRST, SECOND, TIE], [SECOND, FIRST, TIE]
    np.add.at(table[:, :3], first, counted.counts[:, forward])
    np.add.at(table[:, :3], second, counted.counts[:, backward])
    np.add.at(table[:, 3], first, counted.both_bad)
    np.add.at(table[:, 3], second, counted.both_bad)
    return [
        {"wins": int(w), "losses": int(lost), "ties": int(t), "of_which_both_bad": int(bad)}
        for w, lost, t, bad in table
    ]


def _pairs(counted: Tally, strengths: Strengths, config: PreferenceConfig) -> list[dict[str, Any]]:
    return [
        {
            "first": plan.first,
            "second": plan.second,
            "gap": ELO_PER_NATURAL * plan.gap,
            "standard_error": ELO_PER_NATURAL * plan.standard_error,
            "separated": plan.separated,
            "more_votes": plan.more_votes,
        }
        for plan in plan_pairs(counted, strengths, config.confidence, config.power)
    ]


def _warnings(counted: Tally, strengths: Strengths) -> list[str]:
    if not strengths.corrected[0]:
        return []
    record = _record(counted)
    if not any(row["wins"] for row in record):
        return [
            "no vote has a winner, so nothing tells the models apart: half a vote each way was added to "
            "every compared pair, and the exact intervals are open"
        ]
    always = [
        name for name, row in zip(counted.models, record, strict=True) if row["losses"] + row["ties"] == 0
    ]
    never = [name for name, row in zip(counted.models, record, strict=True) if row["wins"] + row["ties"] == 0]
    found = [f"{name} won every vote" for name in always] + [f"{name} lost every vote" for name in never]
    what = ", ".join(found) or "some models won every vote against the others"
    return [
        f"{what}: the likelihood has no finite maximum; half a vote each way was added to every "
        "compared pair, and the exact intervals are open on one side"
    ]


def simulate_votes(
    votes: int, theta: Sequence[float] | np.ndarray[Any, Any], nu: float, generator: np.random.Generator
) -> list[Vote]:
    """Votes drawn from Davidson's model on random pairs, for tests, planning and the benchmark."""
    strength = np.asarray(theta, dtype=np.float64)
    first = generator.integers(0, len(strength), votes)
    second = (first + generator.integers(1, len(strength), votes)) % len(strength)
    gap = strength[first] - strength[second]
    weights = np.stack([np.exp(gap / 2), np.exp(-gap / 2), np.full(votes, nu)], axis=1)
    edges = (weights / weights.sum(axis=1, keepdims=True)).cumsum(axis=1)
    drawn = (generator.random((votes, 1)) > edges[:, :2]).sum(axis=1)
    return [
        Vote(
            vote_id=f"simulated-{n}",
            model_a=f"model-{first[n]}",
            model_b=f"model-{second[n]}",
            outcome=("a", "b", "tie")[drawn[n]],
        )
        for n in range(votes)
    ]
