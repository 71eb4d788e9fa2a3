"""Do voters agree? Krippendorff's alpha for named categories, and the plain share of agreeing pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from kinema.evaluate.votes import OUTCOMES, Vote


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """`alpha` is 1 for full agreement, 0 for chance, negative below it; None when it is not defined.

    `raw` is the share of pairs of votes on one item that agree. `items` counts the items with two or
    more voters; `interval` resamples them. `by` says what an item is: a pair of models shown for one prompt
    ("prompt"), or, where no vote names its prompt, the pair of models ("pair": differences between prompts
    then count as disagreement).
    """

    alpha: float | None
    interval: tuple[float, float] | None
    raw: float | None
    items: int
    voters: int
    by: str


def agreement(
    votes: Sequence[Vote], generator: np.random.Generator, replicates: int = 1000, confidence: float = 0.95
) -> Agreement:
    """Agreement between voters; one voter's repeated vote on an item counts once, the last one."""
    named = [vote for vote in votes if vote.voter]
    by = "prompt" if any(vote.prompt for vote in named) else "pair"
    table = _ratings(named)
    alpha = float(krippendorff_alpha(table[None])[0]) if len(table) else float("nan")
    drawn = generator.integers(0, max(len(table), 1), size=(replicates, len(table)))
    spread = krippendorff_alpha(table[drawn]) if len(table) > 1 else np.array([])
    spread = spread[np.isfinite(spread)]
    tail = (1 - confidence) / 2
    bounds = np.quantile(spread, [tail, 1 - tail]) if len(spread) else None
    return Agreement(
        alpha=alpha if np.isfinite(alpha) else None,
        interval=None if bounds is None else (float(bounds[0]), float(bounds[1])),
        raw=_raw_agreement(table),
        items=len(table),
        voters=len({vote.voter for vote in named}),
        by=by,
    )


def _ratings(votes: Sequence[Vote]) -> Float[np.ndarray, "u k"]:
    """Votes per outcome of every item that two or more voters judged, in terms of its first model by name."""
    items: dict[tuple[str, str, str], dict[str, int]] = {}
    for vote in votes:
        swapped = vote.model_a > vote.model_b
        pair = (vote.model_b, vote.model_a) if swapped else (vote.model_a, vote.model_b)
        outcome = {"a": "b", "b": "a"}.get(vote.outcome, vote.outcome) if swapped else vote.outcome
        items.setdefault((*pair, vote.prompt), {})[vote.voter] = OUTCOMES.index(outcome)
    rows = [
        np.bincount(list(answers.values()), minlength=len(OUTCOMES))
        for answers in items.values()
        if len(answers) > 1
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, len(OUTCOMES))


def krippendorff_alpha(table: Float[np.ndarray, "b u k"]) -> Float[np.ndarray, " b"]:
    """1 - observed / expected disagreement (Krippendorff 2011) of each table of votes per unit and category.

    NaN where all votes are of one category: nothing was told apart, so agreement says nothing.
    """
    raters = table.sum(axis=2)
    alike = (table * (table - 1)).sum(axis=2)
    observed = ((raters * (raters - 1) - alike) / (raters - 1)).sum(axis=1)
    totals, count = table.sum(axis=1), raters.sum(axis=1)
    expected = (count**2 - (totals**2).sum(axis=1)) / (count - 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        alpha: Float[np.ndarray, " b"] = 1 - observed / np.where(expected > 0, expected, np.nan)
    return alpha


def _raw_agreement(table: Float[np.ndarray, "u k"]) -> float | None:
    raters = table.sum(axis=1)
    pairs = (raters * (raters - 1)).sum()
    return float((table * (table - 1)).sum() / pairs) if pairs else None
