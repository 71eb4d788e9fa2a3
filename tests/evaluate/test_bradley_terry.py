"""Fits against other implementations, stationarity, separation and batching."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.evaluate.bradley_terry import (
    ETA_OFF,
    fit,
    fit_counts,
    has_maximum,
    log_likelihood,
    maximise,
    outcome_probabilities,
    start_eta,
)
from kinema.evaluate.preference import simulate_votes
from kinema.evaluate.tally import Tally, tally

STRENGTHS = np.linspace(-1.2, 1.0, 10)
# Davidson's maximum for the counts below, found by scipy.optimize.minimize (BFGS, then Nelder-Mead) on an
# independently written likelihood.
COUNTS = {(0, 1): (12, 5, 4), (0, 2): (9, 9, 3), (1, 2): (4, 11, 6), (2, 3): (8, 7, 9)}
SCIPY_DAVIDSON = (0.264404, -0.680104, 0.264404, 0.151296)
SCIPY_NU = 0.712827


def counted(cells: dict[tuple[int, int], tuple[int, int, int]]) -> Tally:
    size = 1 + max(j for _, j in cells)
    return Tally(
        models=tuple(f"model-{m}" for m in range(size)),
        pairs=np.array(list(cells)),
        counts=np.array(list(cells.values()), dtype=float),
        both_bad=np.zeros(len(cells)),
    )


def test_davidson_matches_values_from_a_general_optimiser() -> None:
    found = fit(counted(COUNTS))
    assert found.theta[0] == pytest.approx(SCIPY_DAVIDSON, abs=1e-5)
    assert np.exp(found.eta[0]) == pytest.approx(SCIPY_NU, abs=1e-5)


def test_two_models_have_the_closed_form() -> None:
    found = fit(counted({(0, 1): (30, 10, 0)}), "half")
    assert found.theta[0] == pytest.approx(np.log(3) / 2 * np.array([1, -1]), abs=1e-9)
    tied = fit(counted({(0, 1): (30, 10, 20)}))
    chance = outcome_probabilities(tied.theta[0, 0] - tied.theta[0, 1], tied.eta[0])
    assert chance == pytest.approx([0.5, 1 / 6, 1 / 3], abs=1e-9)


def test_agrees_with_evalica_and_choix_to_three_decimals() -> None:
    evalica = pytest.importorskip("evalica", reason="evalica is a development dependency")
    choix = pytest.importorskip("choix", reason="choix is a development dependency")
    votes = simulate_votes(20_000, STRENGTHS, 0.5, np.random.default_rng(3))
    table = tally(votes)
    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    xs, ys = [vote.model_a for vote in votes], [vote.model_b for vote in votes]
    outcomes = [winner[vote.outcome] for vote in votes]

    def centred(scores) -> np.ndarray:
        logs = np.log(scores.sort_index().to_numpy())
        return logs - logs.mean()

    half = centred(evalica.bradley_terry(xs, ys, outcomes, tolerance=1e-10, limit=10_000).scores)
    assert fit(table, "half").theta[0] == pytest.approx(half, abs=5e-4)
    ties = centred(evalica.newman(xs, ys, outcomes, tolerance=1e-10, limit=10_000).scores)
    assert fit(table).theta[0] == pytest.approx(ties, abs=5e-4)

    decisive = [vote for vote in votes if vote.outcome != "tie"]
    place = {name: m for m, name in enumerate(table.models)}
    won = [
        (place[v.model_a], place[v.model_b]) if v.outcome == "a" else (place[v.model_b], place[v.model_a])
        for v in decisive
    ]
    assert fit(tally(decisive)).theta[0] == pytest.approx(choix.ilsr_pairwise(10, won), abs=5e-4)


def test_strengths_are_recovered_from_many_votes() -> None:
    found = fit(tally(simulate_votes(200_000, STRENGTHS, 0.7, np.random.default_rng(0))))
    assert found.theta[0] == pytest.approx(STRENGTHS - STRENGTHS.mean(), abs=0.03)
    assert np.exp(found.eta[0]) == pytest.approx(0.7, abs=0.02)


def test_a_batch_equals_its_rows() -> None:
    generator = np.random.default_rng(5)
    table = counted(COUNTS)
    batch = generator.poisson(6, size=(7, 4, 3)).astype(float)
    together = fit_counts(batch, table.pairs, 4)
    for row in range(7):
        alone = fit_counts(batch[row : row + 1], table.pairs, 4)
        assert together.theta[row] == pytest.approx(alone.theta[0], abs=1e-8)


def test_no_neighbour_is_likelier() -> None:
    table = counted(COUNTS)
    found = fit(table)
    generator = np.random.default_rng(2)
    for _ in range(50):
        theta = found.theta + 1e-3 * generator.normal(size=(1, 4))
        eta = found.eta + 1e-3 * generator.normal(size=1)
        assert log_likelihood(table.counts[None], table.pairs, theta, eta)[0] < found.log_likelihood[0]


@pytest.mark.parametrize(
    ("cells", "finite"),
    [
        ({(0, 1): (3, 1, 0)}, True),
        ({(0, 1): (3, 0, 0)}, False),
        ({(0, 1): (3, 0, 2)}, False),
        ({(0, 1): (0, 0, 5)}, False),
        ({(0, 1): (2, 0, 0), (1, 2): (2, 0, 0), (0, 2): (0, 2, 0)}, True),
        ({(0, 1): (2, 0, 0), (1, 2): (0, 0, 2), (0, 2): (0, 0, 2)}, False),
        ({(0, 1): (2, 0, 4), (0, 2): (2, 0, 2), (1, 2): (0, 1, 1)}, True),
        ({(0, 1): (5, 5, 0), (1, 2): (5, 0, 0)}, False),
    ],
)
def test_when_the_likelihood_has_a_maximum(cells, finite: bool) -> None:
    table = counted(cells)
    assert has_maximum(table.counts[None], table.pairs, len(table.models)).tolist() == [finite]


def test_the_condition_agrees_with_where_newton_goes() -> None:
    generator = np.random.default_rng(0)
    pairs = np.array([[0, 1], [0, 2], [1, 2]])
    outcomes = {True: 0, False: 0}
    for counts in generator.poisson(0.8, size=(300, 1, 3, 3)).astype(float):
        if (counts.sum(axis=2) > 0).sum() < 2:
            continue
        finite = bool(has_maximum(counts, pairs, 3)[0])
        theta, eta, _ = maximise(counts, pairs, np.zeros((1, 3)), start_eta(counts))
        runs_off = np.abs(theta).max() > 8 or (eta[0] > ETA_OFF and abs(eta[0]) > 8)
        assert finite != runs_off, counts
        outcomes[finite] += 1
    assert min(outcomes.values()) > 50


def test_a_model_that_always_wins_gets_a_finite_flagged_rating() -> None:
    found = fit(counted({(0, 1): (9, 0, 0), (1, 2): (5, 4, 1), (0, 2): (8, 0, 0)}))
    assert found.corrected.tolist() == [True]
    assert np.isfinite(found.theta).all()
    assert found.theta[0].argmax() == 0


def test_only_ties_mean_equal_strengths() -> None:
    found = fit(counted({(0, 1): (0, 0, 8), (1, 2): (0, 0, 8)}))
    assert found.theta[0] == pytest.approx(np.zeros(3), abs=1e-9)
