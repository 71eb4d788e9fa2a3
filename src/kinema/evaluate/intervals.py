"""How sure a ranking is: bootstrap over votes or voters, and exact profile-likelihood intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

from kinema.evaluate.bradley_terry import (
    Strengths,
    Ties,
    covariance,
    fit_counts,
    maximise,
    prepare,
)
from kinema.evaluate.tally import Tally, tally
from kinema.evaluate.votes import Vote

Excess = Callable[[Float[np.ndarray, " c"]], Float[np.ndarray, " c"]]
UNBOUNDED = 25.0  # natural log units, over 4000 Elo points: odds that no vote count tells from certainty


def bootstrap_counts(
    counted: Tally, replicates: int, generator: np.random.Generator
) -> Float[np.ndarray, "r p 3"]:
    """Counts of resampled votes. Votes of one cell are alike, so this is one multinomial draw."""
    cells = counted.counts.reshape(-1)
    drawn = generator.multinomial(int(cells.sum()), cells / cells.sum(), size=replicates)
    return drawn.reshape(replicates, -1, 3).astype(np.float64)


def bootstrap_voters(
    votes: Sequence[Vote], counted: Tally, replicates: int, generator: np.random.Generator
) -> Float[np.ndarray, "r p 3"]:
    """Counts of resampled voters, each with all votes: honest when a voter's votes resemble each other."""
    return bootstrap_groups(votes, counted, [vote.voter for vote in votes], replicates, generator)


def bootstrap_groups(
    votes: Sequence[Vote],
    counted: Tally,
    group_of: Sequence[str],
    replicates: int,
    generator: np.random.Generator,
) -> Float[np.ndarray, "r p 3"]:
    """Counts of resampled groups of votes (a voter's, a prompt's), each with all its votes."""
    members: dict[str, list[Vote]] = {}
    for vote, group in zip(votes, group_of, strict=True):
        members.setdefault(group, []).append(vote)
    place = {(int(i), int(j)): row for row, (i, j) in enumerate(counted.pairs)}
    table = np.zeros((len(members), len(counted.pairs), 3))
    for row, group in enumerate(sorted(members)):
        own = tally(members[group], counted.models)
        columns = [place[int(i), int(j)] for i, j in own.pairs]
        table[row, columns] = own.counts
    times = generator.multinomial(len(members), np.full(len(members), 1 / len(members)), size=replicates)
    counts: Float[np.ndarray, "r p 3"] = np.einsum("rv,vpo->rpo", times, table)
    return counts


def bootstrap(
    resampled: Float[np.ndarray, "r p 3"], counted: Tally, ties: Ties = "davidson", confidence: float = 0.95
) -> tuple[Float[np.ndarray, "m 2"], float]:
    """Percentile interval of every theta, and the share of replicates that needed a correction."""
    fitted = fit_counts(resampled, counted.pairs, len(counted.models), ties)
    tail = (1 - confidence) / 2
    bounds = np.quantile(fitted.theta, [tail, 1 - tail], axis=0).T
    return bounds, float(fitted.corrected.mean())


def contrasts_to_mean(size: int) -> Float[np.ndarray, "m m"]:
    """Row i is theta_i minus the mean strength: what a rating on a centred scale says."""
    return np.eye(size) - 1.0 / size


def profile_intervals(
    counted: Tally,
    contrasts: Float[np.ndarray, "c m"],
    ties: Ties = "davidson",
    confidence: float = 0.95,
    best: Strengths | None = None,
) -> Float[np.ndarray, "c 2"]:
    """Likelihood-ratio interval of each `contrast @ theta`: where the maximum under that value lies at most
    chi2(1) / 2 below the overall one. An end is infinite when the votes set no limit on that side.

    Contrasts must sum to zero. The profile deviance is convex, so a bracketed root is the only one.
    """
    best = best or fit_counts(counted.counts[None], counted.pairs, len(counted.models), ties)
    allowed = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    spread = np.sqrt(np.einsum("cm,mk,ck->c", contrasts, covariance(counted, best, ties), contrasts))
    centre, reach = contrasts @ best.theta[0], np.sqrt(allowed) * spread
    counts = prepare(counted.counts[None], ties)
    ends = [
        _solve_end(_Profile(counts, counted, contrasts, best, allowed), centre, sign * reach)
        for sign in (-1, 1)
    ]
    return np.stack(ends, axis=-1)


class _Profile:
    """The likelihood's maximum with `contrast @ theta` held, for all contrasts at once; starts warm."""

    def __init__(
        self,
        counts: Float[np.ndarray, "1 p 3"],
        counted: Tally,
        contrasts: Float[np.ndarray, "c m"],
        best: Strengths,
        allowed: float,
    ) -> None:
        many = len(contrasts)
        self.counts, self.pairs, self.contrasts = np.repeat(counts, many, axis=0), counted.pairs, contrasts
        self.theta, self.eta = np.repeat(best.theta, many, axis=0), np.repeat(best.eta, many)
        self.allowed, self.peak = allowed, _supremum(counts, counted, best)

    def excess(self, target: Float[np.ndarray, " c"]) -> Float[np.ndarray, " c"]:
        """Root of the deviance at `contrast @ theta` = target, less the root of what is allowed."""
        miss = target - (self.contrasts * self.theta).sum(axis=1)
        norm = (self.contrasts**2).sum(axis=1)
        start = self.theta + self.contrasts * (miss / norm)[:, None]
        self.theta, self.eta, value = maximise(self.counts, self.pairs, start, self.eta, self.contrasts)
        deviance = np.maximum(2 * (self.peak - value), 0.0)
        return np.asarray(np.sqrt(deviance) - np.sqrt(self.allowed))


def _supremum(counts: Float[np.ndarray, "1 p 3"], counted: Tally, best: Strengths) -> float:
    """The likelihood's maximum, or its limit where strengths run off to infinity."""
    if not best.corrected[0]:
        return float(best.log_likelihood[0])
    return float(maximise(counts, counted.pairs, best.theta, best.eta)[2][0])


def _solve_end(
    profile: _Profile, centre: Float[np.ndarray, " c"], reach: Float[np.ndarray, " c"]
) -> Float[np.ndarray, " c"]:
    """Bracket by doubling, then false position on the root of the deviance, which is nearly linear."""
    inner, inner_excess = _inside(profile.excess, centre, reach)
    outer = inner + reach
    outer_excess = profile.excess(outer)
    for _ in range(12):
        low = (outer_excess < 0) & (np.abs(outer - centre) < UNBOUNDED)
        if not low.any():
            break
        inner, inner_excess = np.where(low, outer, inner), np.where(low, outer_excess, inner_excess)
        outer = np.where(low, centre + 2 * (outer - centre), outer)
        outer_excess = profile.excess(outer)
    unbounded = outer_excess < 0
    start = _Bracket(inner, outer, inner_excess, np.where(unbounded, 1.0, outer_excess))
    return np.where(unbounded, np.copysign(np.inf, reach), _illinois(profile.excess, start))


@dataclass(frozen=True)
class _Bracket:
    low: Float[np.ndarray, " c"]
    high: Float[np.ndarray, " c"]
    low_excess: Float[np.ndarray, " c"]
    high_excess: Float[np.ndarray, " c"]


def _inside(
    excess: Excess, centre: Float[np.ndarray, " c"], reach: Float[np.ndarray, " c"]
) -> tuple[Float[np.ndarray, " c"], Float[np.ndarray, " c"]]:
    """A point inside the interval; a corrected estimate may lie outside, on either side."""
    inner = centre.copy()
    inner_excess = excess(inner)
    for times in (-1.0, 1.0, -2.0, 2.0, -4.0, 4.0, -8.0, 8.0):
        outside = inner_excess >= 0
        if not outside.any():
            break
        inner = np.where(outside, centre + times * reach, inner)
        inner_excess = excess(inner)
    return inner, inner_excess


def _illinois(excess: Excess, bracket: _Bracket) -> Float[np.ndarray, " c"]:
    """False position with the Illinois rule: the end kept twice has its value halved."""
    low, high = bracket.low, bracket.high
    low_excess, high_excess = bracket.low_excess, bracket.high_excess
    side = np.zeros(len(low))
    middle = high
    for _ in range(40):
        middle = low - low_excess * (high - low) / (high_excess - low_excess)
        value = excess(middle)
        above = value > 0
        if (np.abs(value) < 1e-8).all():
            break
        high, low = np.where(above, middle, high), np.where(above, low, middle)
        high_excess = np.where(above, value, np.where(side < 0, high_excess / 2, high_excess))
        low_excess = np.where(above, np.where(side > 0, low_excess / 2, low_excess), value)
        side = np.where(above, 1.0, -1.0)
    return middle
