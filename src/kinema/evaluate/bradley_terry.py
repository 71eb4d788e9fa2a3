"""Bradley-Terry (1952) and Davidson's tie model (1970), fitted by Newton's method on counts, in batches.

With strengths theta (natural log units) and tie parameter nu = exp(eta):

    P(i preferred) : P(j preferred) : P(tie)  =  e^theta_i : e^theta_j : nu e^((theta_i + theta_j) / 2)

Bradley-Terry is nu = 0 with a tie counted as half a win for each. The log-likelihood is concave, so
Newton's steps with halving find the maximum whenever there is one. A row of a batch is one data set
(a bootstrap replicate), or one constrained maximum (a point of a profile).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from kinema.evaluate.tally import FIRST, SECOND, TIE, Tally, reachable

ELO_PER_NATURAL = 400.0 / np.log(10.0)
Ties = Literal["davidson", "half"]
ETA_OFF = -60.0  # exp(-60) never reaches a float64 sum: ties are impossible
MOST_STEPS = 60
LARGEST_STEP = 2.0
SMALLEST_GAIN = 1e-12  # Newton's decrement: twice what the log-likelihood can still gain
Point = tuple[Float[np.ndarray, "b m"], Float[np.ndarray, " b"], Float[np.ndarray, " b"]]


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Maxima of a batch: `theta` has mean 0, `eta` is the log of the tie parameter (ETA_OFF: no ties).

    `corrected`: the likelihood had no finite maximum, and half a vote each way was added to every
    compared pair (Haldane's and Anscombe's correction).
    """

    theta: Float[np.ndarray, "b m"]
    eta: Float[np.ndarray, " b"]
    log_likelihood: Float[np.ndarray, " b"]
    corrected: Bool[np.ndarray, " b"]


def prepare(counts: Float[np.ndarray, "b p 3"], ties: Ties) -> Float[np.ndarray, "b p 3"]:
    """Counts as the chosen model sees them: "half" turns a tie into half a win for each."""
    if ties == "davidson":
        return counts
    half = counts[..., TIE] / 2
    return np.stack([counts[..., FIRST] + half, counts[..., SECOND] + half, np.zeros_like(half)], axis=-1)


def has_maximum(
    counts: Float[np.ndarray, "b p 3"], pairs: Int[np.ndarray, "p 2"], size: int
) -> Bool[np.ndarray, " b"]:
    """Whether the likelihood has a finite maximum: no group always wins or always loses (Ford 1957), and
    the tie parameter cannot grow together with the gaps for ever."""
    wins = _edges(counts[..., FIRST] > 0, counts[..., SECOND] > 0, pairs, size)
    tied = counts[..., TIE] > 0
    either = wins | _edges(tied, tied, pairs, size)
    finite = np.all(reachable(either) | np.eye(size, dtype=bool), axis=(-2, -1))
    cycle = np.diagonal(reachable(wins), axis1=-2, axis2=-1).any(axis=-1)
    doubtful = finite & ~cycle & tied.any(axis=-1)
    finite[doubtful] = ~_ties_can_grow(wins[doubtful], either[doubtful])
    return np.asarray(finite)


def _ties_can_grow(
    wins: Bool[np.ndarray, "b m m"], either: Bool[np.ndarray, "b m m"]
) -> Bool[np.ndarray, " b"]:
    """Whether some gaps grow as fast as the tie parameter and still explain all votes: at least 1 unit where
    there was a win, at most 1 where there was a tie. Such differences exist unless a cycle is negative."""
    tied = either & np.swapaxes(either, 1, 2)
    most = np.where(np.swapaxes(wins, 1, 2), -1.0, np.where(tied, 1.0, np.inf))
    for middle in range(most.shape[-1]):
        most = np.minimum(most, most[:, :, middle, None] + most[:, middle, None, :])
    return np.asarray((np.diagonal(most, axis1=1, axis2=2) >= 0).all(axis=-1))


def _edges(
    forward: Bool[np.ndarray, "b p"],
    backward: Bool[np.ndarray, "b p"],
    pairs: Int[np.ndarray, "p 2"],
    size: int,
) -> Bool[np.ndarray, "b m m"]:
    edges = np.zeros((len(forward), size, size), dtype=bool)
    edges[:, pairs[:, 0], pairs[:, 1]] = forward
    edges[:, pairs[:, 1], pairs[:, 0]] = backward
    return edges


def fit_counts(
    counts: Float[np.ndarray, "b p 3"], pairs: Int[np.ndarray, "p 2"], size: int, ties: Ties = "davidson"
) -> Strengths:
    """Maximum-likelihood strengths of each data set; corrected where there is no finite maximum."""
    seen = prepare(counts, ties)
    corrected = ~has_maximum(seen, pairs, size)
    seen = seen + corrected[:, None, None] * np.array([0.5, 0.5, 0.0])
    theta, eta, value = maximise(seen, pairs, np.zeros((len(seen), size)), start_eta(seen))
    return Strengths(theta=theta, eta=eta, log_likelihood=value, corrected=corrected)


def fit(counted: Tally, ties: Ties = "davidson") -> Strengths:
    """`fit_counts` of one tally, as a batch of one."""
    return fit_counts(counted.counts[None], counted.pairs, len(counted.models), ties)


def start_eta(counts: Float[np.ndarray, "b p 3"]) -> Float[np.ndarray, " b"]:
    """The maximum for equal strengths, nu = 2 ties / wins; ETA_OFF without a tie."""
    total = counts.sum(axis=1)
    with np.errstate(divide="ignore"):
        ratio = np.log(2 * total[:, TIE] / np.maximum(total[:, FIRST] + total[:, SECOND], 0.5))
    return np.where(total[:, TIE] > 0, ratio, ETA_OFF)


def outcome_probabilities(
    gap: Float[np.ndarray, "*b"], eta: Float[np.ndarray, "*b"]
) -> Float[np.ndarray, "*b 3"]:
    """P(first), P(second), P(tie) for `gap` = theta_first - theta_second."""
    utility = np.stack(np.broadcast_arrays(gap / 2, -gap / 2, eta), axis=-1)
    weight = np.exp(utility - utility.max(axis=-1, keepdims=True))
    chance: Float[np.ndarray, "*b 3"] = weight / weight.sum(axis=-1, keepdims=True)
    return chance


def log_likelihood(
    counts: Float[np.ndarray, "b p 3"],
    pairs: Int[np.ndarray, "p 2"],
    theta: Float[np.ndarray, "b m"],
    eta: Float[np.ndarray, " b"],
) -> Float[np.ndarray, " b"]:
    """Sum of count x log probability over pairs and outcomes."""
    gap = theta[:, pairs[:, 0]] - theta[:, pairs[:, 1]]
    utility = np.stack(np.broadcast_arrays(gap / 2, -gap / 2, eta[:, None]), axis=-1)
    top = utility.max(axis=-1)
    norm = top + np.log(np.exp(utility - top[..., None]).sum(axis=-1))
    value: Float[np.ndarray, " b"] = ((counts * utility).sum(axis=-1) - counts.sum(axis=-1) * norm).sum(
        axis=-1
    )
    return value


def maximise(
    counts: Float[np.ndarray, "b p 3"],
    pairs: Int[np.ndarray, "p 2"],
    theta: Float[np.ndarray, "b m"],
    eta: Float[np.ndarray, " b"],
    contrast: Float[np.ndarray, "b m"] | None = None,
) -> tuple[Float[np.ndarray, "b m"], Float[np.ndarray, " b"], Float[np.ndarray, " b"]]:
    """Newton's method from (theta, eta); `contrast @ theta` keeps its starting value when given.

    Returns theta, eta and the log-likelihood. Rows that have converged drop out of the batch.
    """
    theta, eta = theta.copy(), eta.copy()
    value = log_likelihood(counts, pairs, theta, eta)
    rows = np.arange(len(theta))
    for _ in range(MOST_STEPS):
        gradient, information = derivatives(counts[rows], pairs, theta[rows], eta[rows])
        step = _newton_step(gradient, information, None if contrast is None else contrast[rows])
        left = (gradient * step).sum(axis=1) > SMALLEST_GAIN
        rows, step = rows[left], step[left]
        if not len(rows):
            break
        here = (theta[rows], eta[rows], value[rows])
        theta[rows], eta[rows], value[rows] = _line_search(counts[rows], pairs, here, step)
    return theta, eta, value


def derivatives(
    counts: Float[np.ndarray, "b p 3"],
    pairs: Int[np.ndarray, "p 2"],
    theta: Float[np.ndarray, "b m"],
    eta: Float[np.ndarray, " b"],
) -> tuple[Float[np.ndarray, "b q"], Float[np.ndarray, "b q q"]]:
    """Gradient and information matrix in (theta, eta), q = m + 1, made regular.

    The direction that shifts all strengths, and eta where ties are off, carry no information: they get
    a unit there, so that the matrix can be inverted and the step along them is zero.
    """
    size, (i, j) = theta.shape[1], pairs.T
    gap = theta[:, i] - theta[:, j]
    chance = outcome_probabilities(gap, eta[:, None])
    total = counts.sum(axis=-1)
    lead = (chance[..., FIRST] - chance[..., SECOND]) / 2
    excess = (counts[..., FIRST] - counts[..., SECOND]) / 2 - total * lead
    weight = total * ((chance[..., FIRST] + chance[..., SECOND]) / 4 - lead**2)
    cross = -total * chance[..., TIE] * lead
    gradient = np.zeros((len(theta), size + 1))
    information = np.zeros((len(theta), size + 1, size + 1))
    incidence = np.zeros((len(pairs), size))
    incidence[np.arange(len(pairs)), i], incidence[np.arange(len(pairs)), j] = 1.0, -1.0
    gradient[:, :size] = excess @ incidence
    information[:, i, j] = information[:, j, i] = -weight
    diagonal = np.arange(size)
    information[:, diagonal, diagonal] = weight @ np.abs(incidence)
    information[:, :size, :size] += 1.0 / size
    free = eta > ETA_OFF
    gradient[:, size] = free * (counts[..., TIE] - total * chance[..., TIE]).sum(axis=1)
    information[:, :size, size] = information[:, size, :size] = free[:, None] * (cross @ incidence)
    tie_weight = (total * chance[..., TIE] * (1 - chance[..., TIE])).sum(axis=1)
    information[:, size, size] = np.where(free, tie_weight, 1.0)
    return gradient, information


def _newton_step(
    gradient: Float[np.ndarray, "b q"],
    information: Float[np.ndarray, "b q q"],
    contrast: Float[np.ndarray, "b m"] | None,
) -> Float[np.ndarray, "b q"]:
    q = gradient.shape[1]
    ridge = 1e-10 * np.eye(q) * np.trace(information, axis1=1, axis2=2)[:, None, None] / q
    inverse_on = [gradient] if contrast is None else [gradient, np.pad(contrast, ((0, 0), (0, 1)))]
    solved = np.linalg.solve(information + ridge, np.stack(inverse_on, axis=-1))
    step = solved[..., 0]
    if contrast is not None:
        along = solved[..., 1]
        held = (along[:, :-1] * contrast).sum(axis=1)
        step = step - along * ((step[:, :-1] * contrast).sum(axis=1) / held)[:, None]
    largest = np.abs(step).max(axis=1, keepdims=True)
    limited: Float[np.ndarray, "b q"] = step * np.minimum(1.0, LARGEST_STEP / np.maximum(largest, 1e-300))
    return limited


def _line_search(
    counts: Float[np.ndarray, "r p 3"],
    pairs: Int[np.ndarray, "p 2"],
    here: Point,
    step: Float[np.ndarray, "r q"],
) -> Point:
    """Halve the step of each row until its likelihood does not fall (up to rounding)."""
    theta, eta, value = here
    scale = np.ones(len(theta))
    reached = value
    for _ in range(30):
        moved, moved_eta = theta + scale[:, None] * step[:, :-1], eta + scale * step[:, -1]
        reached = log_likelihood(counts, pairs, moved, moved_eta)
        short = reached < value - 1e-9 * (1 + np.abs(value))
        if not short.any():
            break
        scale = np.where(short, scale / 2, scale)
    return moved, moved_eta, reached


def covariance(counted: Tally, strengths: Strengths, ties: Ties = "davidson") -> Float[np.ndarray, "m m"]:
    """Inverse information of theta at the first row's maximum, for contrasts of strengths."""
    counts = prepare(counted.counts[None], ties)
    counts = counts + strengths.corrected[:1, None, None] * np.array([0.5, 0.5, 0.0])
    _, information = derivatives(counts, counted.pairs, strengths.theta[:1], strengths.eta[:1])
    inverse: Float[np.ndarray, "m m"] = np.linalg.inv(information[0])[:-1, :-1]
    return inverse
