"""Planning from the command line's side: numbers agree with the planner, and models are named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.errors import ConfigError
from kinema.evaluate.preference import DisconnectedVotesError, fit_votes, simulate_votes
from kinema.evaluate.questions import PlanConfig, ask_next, plan_gap, plan_votes, voters_agree
from kinema.evaluate.votes import VoteError, VoteStore


@pytest.fixture
def store(tmp_path: Path) -> VoteStore:
    """60 votes of three voters on four models."""
    store = VoteStore(tmp_path / "votes.jsonl")
    for number, vote in enumerate(simulate_votes(60, [0.0, 0.3, 0.6, 2.0], 0.5, np.random.default_rng(1))):
        store.append(replace(vote, voter=f"v{number % 3}", prompt=f"p{number % 2}"))
    return store


def test_the_plan_of_a_pair_is_that_of_the_ranking(store: VoteStore) -> None:
    pairs = plan_votes(store.path, ["model-0", "model-1"])["axes"]["overall"]
    ranked = fit_votes(store.path)["axes"]["overall"]["pairs"]
    assert pairs == [row for row in ranked if (row["first"], row["second"]) == ("model-0", "model-1")]
    assert len(plan_votes(store.path)["axes"]["overall"]) == len(ranked) == 6
    with pytest.raises(VoteError, match="no vote is on 'model-9'"):
        plan_votes(store.path, ["model-9"])


def test_a_gap_planned_beforehand_needs_more_votes_when_smaller_tied_or_surer() -> None:
    plain = plan_gap(50, 0.0)["votes"]
    assert plain == pytest.approx((1.959964 + 0.841621) ** 2 * 4 / (50 * np.log(10) / 400) ** 2, rel=0.03)
    assert plan_gap(25, 0.0)["votes"] > 3.5 * plain
    assert plan_gap(50, 0.4)["votes"] > plain
    assert plan_gap(50, 0.0, PlanConfig(power=0.95))["votes"] > plain
    with pytest.raises(ConfigError, match="gap must be above 0"):
        plan_gap(0, 0.2)


def test_pairs_that_tell_most_include_models_without_votes(store: VoteStore) -> None:
    assert len(ask_next(store.path, 4)["axes"]["overall"]) == 4
    assert ask_next(store.path, 4, ["new"])["axes"]["overall"] == [["model-0", "new"]]
    with pytest.raises(ConfigError, match="at least 1"):
        ask_next(store.path, 0)


def test_agreement_needs_voters(store: VoteStore, tmp_path: Path) -> None:
    found = voters_agree(store.path)["axes"]["overall"]
    assert (found["voters"], found["by"]) == (3, "prompt")
    table = tmp_path / "votes.csv"
    table.write_text("model_a,model_b,outcome\nx,y,a\n")
    with pytest.raises(VoteError, match="add a column voter"):
        voters_agree(table)


def test_models_apart_cannot_be_planned_but_can_be_asked_about(tmp_path: Path) -> None:
    table = tmp_path / "votes.csv"
    table.write_text("model_a,model_b,outcome\nw,x,a\ny,z,a\n")
    with pytest.raises(DisconnectedVotesError, match="w, x; y, z"):
        plan_votes(table)
    assert ask_next(table, 1)["axes"]["overall"] == [["w", "y"]]
