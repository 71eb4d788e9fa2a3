"""What to ask people next: how many more votes a question needs, and which pairs tell most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinema.errors import ConfigError
from kinema.evaluate.agreement import agreement
from kinema.evaluate.bradley_terry import ELO_PER_NATURAL, ETA_OFF, Strengths, fit
from kinema.evaluate.planning import next_pairs, plan_pairs, votes_to_separate
from kinema.evaluate.preference import DisconnectedVotesError, PreferenceConfig
from kinema.evaluate.tally import Tally, groups, tally
from kinema.evaluate.votes import Vote, VoteError, read_votes, scored_votes


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """`confidence` of the two-sided test, and the `power` with which it is to find the gap."""

    confidence: float = 0.95
    power: float = 0.8

    def __post_init__(self) -> None:
        if not 0 < self.confidence < 1 or not 0 < self.power < 1:
            raise ValueError(f"confidence and power must be in (0, 1), got {self.confidence}, {self.power}")


def plan_gap(gap: float, tie_rate: float, config: PlanConfig | None = None) -> dict[str, Any]:
    """Votes on one pair that find a gap of `gap` Elo points, before any vote is cast; None: over a million.

    `tie_rate` is the share of ties that voters would give to two equal models.
    """
    config = config or PlanConfig()
    if gap <= 0 or not 0 <= tie_rate < 1:
        raise ConfigError(f"the gap must be above 0 and the tie rate in [0, 1), got {gap:g} and {tie_rate:g}")
    eta = float(np.log(2 * tie_rate / (1 - tie_rate))) if tie_rate else ETA_OFF
    votes = votes_to_separate(gap / ELO_PER_NATURAL, eta, 0.0, config.confidence, config.power)
    return {"gap": gap, "tie_rate": tie_rate, "votes": votes, **asdict(config)}


def plan_votes(path: Path, models: Sequence[str] = (), config: PlanConfig | None = None) -> dict[str, Any]:
    """By axis, every pair of `models` (of all, by default): its gap, and how many more votes separate it."""
    config = config or PlanConfig()
    axes = {}
    for axis, (counted, strengths, _) in _fitted(path, models).items():
        if strengths is None:
            raise DisconnectedVotesError(str(path), axis, groups(counted))
        plans = plan_pairs(counted, strengths, config.confidence, config.power)
        axes[axis] = [
            {
                **asdict(plan),
                "gap": ELO_PER_NATURAL * plan.gap,
                "standard_error": ELO_PER_NATURAL * plan.standard_error,
            }
            for plan in plans
            if not models or {plan.first, plan.second} <= set(models)
        ]
    return {"votes_file": str(path), "axes": axes, **asdict(config)}


def ask_next(path: Path, wanted: int, models: Sequence[str] = ()) -> dict[str, Any]:
    """By axis, the `wanted` pairs whose votes are expected to tell most; `models` adds some without votes."""
    if wanted < 1:
        raise ConfigError(f"the number of pairs must be at least 1, got {wanted}")
    return {
        "votes_file": str(path),
        "axes": {
            axis: [list(pair) for pair in next_pairs(counted, strengths, wanted)]
            for axis, (counted, strengths, _) in _fitted(path, models, adding=True).items()
        },
    }


def voters_agree(path: Path, config: PreferenceConfig | None = None) -> dict[str, Any]:
    """By axis, the agreement between voters."""
    config = config or PreferenceConfig()
    generator = np.random.default_rng(config.seed)
    axes = {
        axis: asdict(agreement(votes, generator, config.bootstraps, config.confidence))
        for axis, (_, _, votes) in _fitted(path, ()).items()
    }
    if not any(found["voters"] for found in axes.values()):
        raise VoteError(f"{path}: no vote names its voter; add a column voter")
    return {"votes_file": str(path), "axes": axes}


def _fitted(
    path: Path, models: Sequence[str], *, adding: bool = False
) -> dict[str, tuple[Tally, Strengths | None, list[Vote]]]:
    """Counts, strengths and votes of each axis; no strengths where votes leave groups apart."""
    votes, _ = scored_votes(read_votes(path))
    if not votes:
        raise VoteError(f"{path}: no votes to count; add rows")
    known = {name for vote in votes for name in (vote.model_a, vote.model_b)}
    if not adding and (strange := set(models) - known):
        raise VoteError(
            f"{path}: no vote is on {sorted(strange)[0]!r}; its models are {', '.join(sorted(known))}"
        )
    found: dict[str, tuple[Tally, Strengths | None, list[Vote]]] = {}
    for axis in sorted({vote.axis for vote in votes}):
        own = [vote for vote in votes if vote.axis == axis]
        counted = tally(own, models if adding else ())
        found[axis] = (counted, fit(counted) if len(groups(counted)) == 1 else None, own)
    return found
