"""Krippendorff's alpha against its textbook value and another implementation; orientation; one voter."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.evaluate.agreement import agreement, krippendorff_alpha
from kinema.evaluate.votes import Vote


def cast(*rows: tuple[str, str, str, str, str]) -> list[Vote]:
    return [
        Vote(vote_id=str(n), voter=who, prompt=prompt, model_a=a, model_b=b, outcome=o)
        for n, (who, prompt, a, b, o) in enumerate(rows)
    ]


def test_alpha_of_krippendorffs_own_example_for_nominal_data() -> None:
    ratings = [
        "1 1 - 1", "2 2 3 2", "3 3 3 3", "3 3 3 3", "2 2 2 2", "1 2 3 4", "4 4 4 4", "1 1 2 1",
        "2 2 2 2", "- 5 5 5", "- - 1 1", "- - 3 -",
    ]  # fmt: skip
    table = np.array([[row.split().count(str(k)) for k in range(1, 6)] for row in ratings], dtype=float)
    table = table[table.sum(axis=1) > 1]
    assert krippendorff_alpha(table[None])[0] == pytest.approx(0.743, abs=5e-4)


def test_orientation_does_not_matter() -> None:
    votes = cast(
        ("ann", "p", "x", "y", "a"),
        ("bob", "p", "y", "x", "b"),
        ("ann", "q", "x", "y", "b"),
        ("bob", "q", "x", "y", "b"),
    )
    found = agreement(votes, np.random.default_rng(0))
    assert (found.alpha, found.raw, found.items, found.voters, found.by) == (1.0, 1.0, 2, 2, "prompt")


def test_chance_answers_have_an_alpha_near_zero_inside_the_interval() -> None:
    generator = np.random.default_rng(0)
    votes = cast(
        *[
            (f"v{v}", f"p{p}", "x", "y", ("a", "b", "tie")[generator.integers(3)])
            for p in range(300)
            for v in range(3)
        ]
    )
    found = agreement(votes, generator)
    assert found.alpha == pytest.approx(0, abs=0.08)
    assert found.interval[0] < 0 < found.interval[1]
    assert found.raw == pytest.approx(1 / 3, abs=0.06)


def test_one_voter_or_one_category_has_no_alpha() -> None:
    assert agreement(cast(("ann", "p", "x", "y", "a")), np.random.default_rng(0)).alpha is None
    same = cast(("ann", "p", "x", "y", "a"), ("bob", "p", "x", "y", "a"))
    found = agreement(same, np.random.default_rng(0))
    assert found.alpha is None
    assert found.raw == 1.0


def test_a_voter_who_answers_twice_counts_once() -> None:
    votes = cast(("ann", "p", "x", "y", "a"), ("ann", "p", "x", "y", "b"))
    assert agreement(votes, np.random.default_rng(0)).items == 0
