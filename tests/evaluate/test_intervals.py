"""Intervals: the definition of the profile, coverage, open ends, and bootstraps that mean what they say."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.evaluate.bradley_terry import fit
from kinema.evaluate.intervals import (
    bootstrap,
    bootstrap_counts,
    bootstrap_voters,
    contrasts_to_mean,
    profile_intervals,
)
from kinema.evaluate.preference import simulate_votes
from kinema.evaluate.tally import Tally, tally
from kinema.evaluate.votes import Vote


def two_models(first: int, second: int, ties: int = 0) -> Tally:
    return Tally(
        models=("x", "y"),
        pairs=np.array([[0, 1]]),
        counts=np.array([[first, second, ties]], dtype=float),
        both_bad=np.zeros(1),
    )


GAP = np.array([[1.0, -1.0]])


def test_two_models_have_the_binomial_likelihood_interval() -> None:
    low, high = profile_intervals(two_models(30, 10), GAP)[0]

    def deviance(gap: float) -> float:
        chance = 1 / (1 + np.exp(-gap))
        best = 30 * np.log(0.75) + 10 * np.log(0.25)
        return 2 * (best - 30 * np.log(chance) - 10 * np.log(1 - chance))

    assert deviance(low) == pytest.approx(3.841459, abs=1e-5)
    assert deviance(high) == pytest.approx(3.841459, abs=1e-5)
    assert low < np.log(3) < high


@pytest.mark.parametrize("wins", [1, 5, 100])
def test_a_model_that_always_wins_has_a_lower_limit_only(wins: int) -> None:
    low, high = profile_intervals(two_models(wins, 0), GAP)[0]
    chance = np.exp(-3.841459 / 2 / wins)
    assert low == pytest.approx(np.log(chance / (1 - chance)), abs=1e-4)
    assert high == np.inf
    assert profile_intervals(two_models(0, wins), GAP)[0] == pytest.approx([-np.inf, -low], abs=1e-6)


def test_a_model_that_lost_both_its_votes_has_an_upper_limit_only() -> None:
    """Here the corrected estimate lies above that limit."""
    counted = Tally(
        models=("x", "y", "z"),
        pairs=np.array([[0, 1], [0, 2], [1, 2]]),
        counts=np.array([[1, 0, 0], [0, 0, 1], [0, 1, 0]], dtype=float),
        both_bad=np.zeros(3),
    )
    bounds = profile_intervals(counted, contrasts_to_mean(3))
    assert np.isneginf(bounds[1, 0])
    assert bounds[1, 1] == pytest.approx(-1.29, abs=0.01)
    assert np.isposinf(bounds[[0, 2], 1]).all()
    assert np.isfinite(bounds[[0, 2], 0]).all()


def test_only_ties_set_no_limit_because_the_tie_parameter_explains_them_all() -> None:
    assert profile_intervals(two_models(0, 0, 12), GAP)[0].tolist() == [-np.inf, np.inf]


def test_profile_intervals_cover_at_the_stated_rate() -> None:
    truth = np.array([-0.6, 0.0, 0.6])
    generator, inside, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        counted = tally(simulate_votes(90, truth, 0.6, generator))
        bounds = profile_intervals(counted, contrasts_to_mean(3), confidence=0.9)
        inside += int(((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])).sum())
    assert inside / (3 * trials) == pytest.approx(0.9, abs=0.04)


def test_bootstrap_and_profile_agree_on_many_votes() -> None:
    counted = tally(simulate_votes(20_000, np.linspace(-1, 1, 5), 0.5, np.random.default_rng(1)))
    resampled = bootstrap_counts(counted, 2000, np.random.default_rng(2))
    assert (resampled.sum(axis=(1, 2)) == 20_000).all()
    bounds, corrected = bootstrap(resampled, counted)
    exact = profile_intervals(counted, contrasts_to_mean(5))
    width = exact[:, 1] - exact[:, 0]
    assert corrected == 0
    assert np.abs(bounds - exact).max() < 0.15 * width.min()
    assert (exact[:, 0] < fit(counted).theta[0]).all()


def test_a_small_bootstrap_reports_its_corrections() -> None:
    counted = two_models(3, 1)
    bounds, corrected = bootstrap(bootstrap_counts(counted, 500, np.random.default_rng(0)), counted)
    assert corrected == pytest.approx(0.75**4 + 0.25**4, abs=0.06)
    assert np.isfinite(bounds).all()


def test_resampling_voters_is_wider_when_voters_repeat_themselves() -> None:
    votes = [
        Vote(
            vote_id=f"{voter}-{n}",
            model_a="x",
            model_b="y",
            outcome="a" if voter % 3 else "b",
            voter=str(voter),
        )
        for voter in range(12)
        for n in range(20)
    ]
    counted = tally(votes)
    people = bootstrap(bootstrap_voters(votes, counted, 1000, np.random.default_rng(0)), counted)[0]
    single = bootstrap(bootstrap_counts(counted, 1000, np.random.default_rng(0)), counted)[0]
    assert np.ptp(people[0]) > 3 * np.ptp(single[0])
