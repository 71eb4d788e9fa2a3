"""A recommendation follows the votes, and says when they do not decide."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.ablate.arms import Arm
from kinema.ablate.verdict import judge_study
from kinema.ablate.voting import answer
from kinema.evaluate.preference import PreferenceConfig
from kinema.evaluate.votes import Vote
from kinema.train.config import TrainConfig

CONFIG = PreferenceConfig(bootstraps=300, elo_orders=5)
FRACTIONS = {"all": 0.0, "motion-25": 0.25, "motion-50": 0.5}


def arms() -> list[Arm]:
    return [
        Arm(
            name=name,
            words=f"without {fraction}",
            clips=(),
            train=TrainConfig(),
            fraction=fraction,
            threshold=fraction or None,
        )
        for name, fraction in FRACTIONS.items()
    ]


def votes(strengths: dict[str, float], prompts: int) -> list[Vote]:
    generator = np.random.default_rng(0)
    names = list(strengths)
    found = []
    for prompt in range(prompts):
        for first in range(3):
            for second in range(first):
                a, b = names[first], names[second]
                outcome = answer(strengths[a] - strengths[b], generator)
                named = {"vote_id": f"{prompt}-{a}-{b}", "model_a": a, "model_b": b, "prompt": f"p{prompt}"}
                found.append(Vote(**named, outcome=outcome, axis="quality"))
    return found


def test_a_clear_winner_is_recommended_with_its_threshold() -> None:
    verdict = judge_study("motion", arms(), votes({"all": 0, "motion-25": 3, "motion-50": 0.5}, 60), CONFIG)
    best = verdict.standings[0]
    assert (best.arm, best.threshold, best.best) == ("motion-25", 0.25, 1.0)
    assert not any(standing.not_worse for standing in verdict.standings[1:])
    assert "a threshold of 0.25 (first in 100% of resampled prompts; every" in verdict.recommendation
    assert best.interval[0] < best.rating < best.interval[1]


def test_arms_that_are_alike_are_said_to_be_open() -> None:
    verdict = judge_study("motion", arms(), votes({"all": 0, "motion-25": 0, "motion-50": 0}, 12), CONFIG)
    assert all(standing.not_worse for standing in verdict.standings)
    assert "the votes do not tell it from" in verdict.recommendation
    assert "thresholds from 0.25 to 0.5 are open" in verdict.recommendation
    assert sum(standing.best for standing in verdict.standings) == pytest.approx(1)


def test_dropping_nothing_can_win() -> None:
    verdict = judge_study("motion", arms(), votes({"all": 3, "motion-25": 0, "motion-50": 0}, 40), CONFIG)
    assert verdict.recommendation.startswith("motion: drop nothing")


def test_without_votes_nothing_is_recommended() -> None:
    assert judge_study("motion", arms(), [], CONFIG).recommendation == "no votes yet"
    lonely = [Vote(vote_id="1", model_a="all", model_b="motion-25", outcome="a")]
    verdict = judge_study("motion", arms(), lonely, CONFIG)
    assert verdict.standings == ()
    assert verdict.recommendation.startswith("more votes are needed")


def test_votes_of_other_studies_do_not_count() -> None:
    strange = [Vote(vote_id="1", model_a="all", model_b="text_area-25", outcome="a")]
    assert judge_study("motion", arms(), strange, CONFIG).votes == 0
