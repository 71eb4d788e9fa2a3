"""How many more votes, and on which pair: planning from the fitted Davidson model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from math import ceil
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from kinema.evaluate.bradley_terry import Strengths, covariance, outcome_probabilities
from kinema.evaluate.tally import FIRST, SECOND, Tally, groups

LARGEST_PLAN = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PairPlan:
    """`more_votes` direct votes on the pair would separate it; None: over a million, as good as equal."""

    first: str
    second: str
    gap: float
    standard_error: float
    separated: bool
    more_votes: int | None


def vote_information(gap: float, eta: float) -> float:
    """Fisher information about `gap` in one direct vote; a tie tells less than a choice."""
    chance = outcome_probabilities(np.array(gap), np.array(eta))
    lead = (chance[FIRST] - chance[SECOND]) / 2
    return float((chance[FIRST] + chance[SECOND]) / 4 - lead**2)


def votes_to_separate(
    gap: float, eta: float, information_now: float = 0.0, confidence: float = 0.95, power: float = 0.8
) -> int | None:
    """Direct votes until a two-sided test at `confidence` finds the fitted gap with probability `power`.

    Asks for (z_confidence + z_power)^2 / gap^2 of information; a direct vote adds `vote_information`,
    and what other pairs say about the gap is in `information_now` already (ranks of information add).
    """
    normal = NormalDist()
    quantiles = normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(power)
    if gap == 0:
        return None
    missing = quantiles**2 / gap**2 - information_now
    votes = missing / vote_information(gap, eta)
    return max(0, ceil(votes)) if votes <= LARGEST_PLAN else None


def plan_pairs(
    counted: Tally, strengths: Strengths, confidence: float = 0.95, power: float = 0.8
) -> list[PairPlan]:
    """Every pair: is it separated by a Wald test, and how many more direct votes would do it."""
    theta, eta = strengths.theta[0], float(strengths.eta[0])
    variance = gap_variances(counted, strengths)
    limit = NormalDist().inv_cdf((1 + confidence) / 2)
    plans = []
    for i, j in combinations(range(len(counted.models)), 2):
        gap, error = float(theta[i] - theta[j]), float(np.sqrt(variance[i, j]))
        separated = abs(gap) > limit * error
        more = 0 if separated else votes_to_separate(gap, eta, 1 / variance[i, j], confidence, power)
        plans.append(
            PairPlan(
                first=counted.models[i],
                second=counted.models[j],
                gap=gap,
                standard_error=error,
                separated=separated,
                more_votes=more,
            )
        )
    return plans


def gap_variances(counted: Tally, strengths: Strengths) -> Float[np.ndarray, "m m"]:
    """Variance of theta_i - theta_j for all pairs."""
    joint = covariance(counted, strengths)
    own = np.diagonal(joint)
    return np.asarray(own[:, None] + own[None, :] - 2 * joint)


def next_pairs(counted: Tally, strengths: Strengths | None, wanted: int = 1) -> list[tuple[str, str]]:
    """Pairs to ask about next: those whose vote is expected to tell most.

    While votes do not connect all models, pairs between groups come first. Then a vote's worth is the gain
    log(1 + information x variance of the gap) in the log determinant of what is known (D-optimality). With
    several wanted, each is chosen as if the earlier ones had been answered.
    """
    if strengths is None:
        return _linking_pairs(groups(counted))[:wanted]
    theta, eta = strengths.theta[0], float(strengths.eta[0])
    joint = covariance(counted, strengths)
    pairs = list(combinations(range(len(counted.models)), 2))
    told = np.array([vote_information(float(theta[i] - theta[j]), eta) for i, j in pairs])
    chosen: list[tuple[str, str]] = []
    for _ in range(min(wanted, len(pairs))):
        first, second = np.array(pairs).T
        column = joint[:, first] - joint[:, second]
        variance = column[first, np.arange(len(pairs))] - column[second, np.arange(len(pairs))]
        best = int(np.argmax(told * variance))
        i, j = pairs[best]
        chosen.append((counted.models[i], counted.models[j]))
        gain = told[best] / (1 + told[best] * variance[best])
        joint = joint - gain * np.outer(column[:, best], column[:, best])
    return chosen


def _linking_pairs(apart: list[list[str]]) -> list[tuple[str, str]]:
    """A chain of pairs that would connect the groups."""
    return [(left[0], right[0]) for left, right in pairwise(apart)]
