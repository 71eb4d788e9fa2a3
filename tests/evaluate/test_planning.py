"""The planner's promise is kept in simulation; the next pair is the one that tells most."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.evaluate.bradley_terry import fit, outcome_probabilities
from kinema.evaluate.planning import next_pairs, plan_pairs, vote_information, votes_to_separate
from kinema.evaluate.preference import simulate_votes
from kinema.evaluate.tally import tally
from kinema.evaluate.votes import Vote


@pytest.mark.parametrize(("gap", "eta"), [(0.4, -60.0), (0.4, 0.5), (0.8, -0.5)])
def test_the_planned_number_of_votes_has_the_planned_power(gap: float, eta: float) -> None:
    needed = votes_to_separate(gap, eta)
    generator = np.random.default_rng(0)
    chance = outcome_probabilities(np.array(gap), np.array(eta))
    won, lost, _ = generator.multinomial(needed, chance, size=4000).T
    found = np.abs(won - lost) / np.sqrt(won + lost) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.04)


def test_ties_cost_votes_and_votes_already_cast_save_them() -> None:
    assert votes_to_separate(0.5, 1.0) > votes_to_separate(0.5, -60.0)
    base, saved = votes_to_separate(0.5, -60.0), votes_to_separate(0.5, -60.0, information_now=10.0)
    assert base - saved == pytest.approx(10.0 / vote_information(0.5, -60.0), abs=1)
    assert votes_to_separate(0.0, 0.0) is None
    assert votes_to_separate(1e-6, 0.0) is None


def test_a_plan_lists_every_pair_once_and_separated_pairs_need_nothing() -> None:
    counted = tally(simulate_votes(900, [0.0, 0.05, 1.5], 0.5, np.random.default_rng(0)))
    plans = {(plan.first, plan.second): plan for plan in plan_pairs(counted, fit(counted))}
    assert len(plans) == 3
    clear, close = plans["model-0", "model-2"], plans["model-0", "model-1"]
    assert clear.separated
    assert clear.more_votes == 0
    assert not close.separated
    assert close.more_votes is None or close.more_votes > 1000


def test_unconnected_models_come_first() -> None:
    votes = [Vote(vote_id="1", model_a="a", model_b="b", outcome="a")]
    assert next_pairs(tally(votes, ["c", "d"]), None, 5) == [("a", "c"), ("c", "d")]


def test_the_least_known_close_pair_is_asked_next_and_then_others() -> None:
    votes = []
    for first, second, count in [("a", "b", 50), ("b", "c", 50), ("c", "d", 3)]:
        for n in range(count):
            votes.append(
                Vote(vote_id=f"{first}{n}", model_a=first, model_b=second, outcome=("a", "b", "tie")[n % 3])
            )
    counted = tally(votes)
    chosen = next_pairs(counted, fit(counted), 6)
    assert "d" in chosen[0]
    assert len(chosen) == 6
    assert len(set(chosen)) > 2
