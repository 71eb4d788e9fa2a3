"""Elo as Stable Video Diffusion ranks by human preference: start 1000, K = 1, mean over 1000 vote orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from kinema.evaluate.votes import Vote

SCORES = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
NATURAL_PER_ELO = np.log(10.0) / 400.0
PERMUTED_CELLS = 20_000_000


@dataclass(frozen=True, kw_only=True)
class EloConfig:
    """The paper names neither the score of a tie nor the statistic over orders: here 0.5 and the mean."""

    start: float = 1000.0
    k: float = 1.0
    orders: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if self.orders < 1 or self.k <= 0:
            raise ValueError(f"orders must be >= 1 and k > 0, got {self.orders} and {self.k}")


def elo(
    votes: Sequence[Vote], models: Sequence[str], config: EloConfig | None = None
) -> Float[np.ndarray, "orders m"]:
    """Final ratings of `models` for every random order of the votes; the rating is the mean over orders."""
    config = config or EloConfig()
    index = {name: place for place, name in enumerate(models)}
    games = _Games(
        first=np.array([index[vote.model_a] for vote in votes], dtype=np.intp),
        second=np.array([index[vote.model_b] for vote in votes], dtype=np.intp),
        score=np.array([SCORES[vote.outcome] for vote in votes]),
    )
    generator = np.random.default_rng(config.seed)
    block = max(1, min(config.orders, PERMUTED_CELLS // max(len(votes), 1)))
    ratings = np.full((config.orders, len(models)), config.start)
    for begin in range(0, config.orders, block):
        part = ratings[begin : begin + block]
        orders = np.tile(np.arange(len(votes), dtype=np.int32)[:, None], (1, len(part)))
        generator.permuted(orders, axis=0, out=orders)
        _play(part, games, orders, config.k)
    return ratings


@dataclass(frozen=True)
class _Games:
    first: Int[np.ndarray, " n"]
    second: Int[np.ndarray, " n"]
    score: Float[np.ndarray, " n"]


def _play(ratings: Float[np.ndarray, "s m"], games: _Games, orders: Int[np.ndarray, "n s"], k: float) -> None:
    """Update `ratings` in place, one vote of every order at a time; in-place arithmetic is half the time."""
    flat = ratings.reshape(-1)
    rows = np.arange(len(ratings)) * ratings.shape[1]
    for vote in orders:
        i, j = games.first.take(vote), games.second.take(vote)
        i += rows
        j += rows
        first, second = flat.take(i), flat.take(j)
        odds = np.exp((second - first) * NATURAL_PER_ELO)
        change = games.score.take(vote)
        change -= 1.0 / (1.0 + odds)
        change *= k
        flat[i] = first + change
        flat[j] = second - change
