"""Elo: the update by hand, the tie's score, order independence of the mean, determinism."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.evaluate.elo import EloConfig, elo
from kinema.evaluate.preference import simulate_votes
from kinema.evaluate.votes import Vote


def cast(*rows: tuple[str, str, str]) -> list[Vote]:
    return [Vote(vote_id=str(n), model_a=a, model_b=b, outcome=o) for n, (a, b, o) in enumerate(rows)]


def test_one_win_between_equals_moves_half_a_point() -> None:
    assert elo(cast(("x", "y", "a")), ("x", "y")).mean(axis=0).tolist() == [1000.5, 999.5]
    assert elo(cast(("x", "y", "b")), ("x", "y")).mean(axis=0).tolist() == [999.5, 1000.5]


@pytest.mark.parametrize("outcome", ["tie", "both_bad"])
def test_a_tie_between_equals_moves_nothing(outcome: str) -> None:
    assert elo(cast(("x", "y", outcome)), ("x", "y")).mean(axis=0).tolist() == [1000.0, 1000.0]


def test_two_wins_follow_the_published_update() -> None:
    second = 1 - 1 / (1 + 10 ** (-1 / 400))
    ratings = elo(cast(("x", "y", "a"), ("x", "y", "a")), ("x", "y"), EloConfig(orders=3))
    assert ratings[:, 0] == pytest.approx([1000.5 + second] * 3, abs=1e-12)


def test_mean_agrees_with_a_plain_loop_and_points_are_conserved() -> None:
    votes = simulate_votes(60, [0.0, 0.5, 1.0], 0.5, np.random.default_rng(1))
    names = ("model-0", "model-1", "model-2")
    generator, finals = np.random.default_rng(9), []
    for _ in range(2000):
        rating = dict.fromkeys(names, 1000.0)
        for vote in generator.permutation(np.array(votes, dtype=object)):
            score = {"a": 1.0, "b": 0.0, "tie": 0.5}[vote.outcome]
            expected = 1 / (1 + 10 ** ((rating[vote.model_b] - rating[vote.model_a]) / 400))
            rating[vote.model_a] += score - expected
            rating[vote.model_b] -= score - expected
        finals.append([rating[name] for name in names])
    ours = elo(votes, names)
    assert ours.sum(axis=1) == pytest.approx(np.full(1000, 3000.0), abs=1e-6)
    assert ours.mean(axis=0) == pytest.approx(np.mean(finals, axis=0), abs=0.02)
    assert (ours == elo(votes, names)).all()


def test_memory_blocks_do_not_lose_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinema.evaluate.elo.PERMUTED_CELLS", 70)
    ratings = elo(cast(*[("x", "y", "a")] * 10), ("x", "y"), EloConfig(orders=10))
    assert (ratings[:, 0] > 1004).all()


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="orders must be >= 1"):
        EloConfig(orders=0)
