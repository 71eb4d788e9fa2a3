"""Counting by pair: orientation, ties, both_bad, and which models are connected."""

from __future__ import annotations

import numpy as np

from kinema.evaluate.tally import groups, reachable, tally
from kinema.evaluate.votes import Vote


def cast(*rows: tuple[str, str, str]) -> list[Vote]:
    return [Vote(vote_id=str(n), model_a=a, model_b=b, outcome=o) for n, (a, b, o) in enumerate(rows)]


def test_a_vote_counts_the_same_in_either_orientation() -> None:
    counted = tally(
        cast(("y", "x", "b"), ("x", "y", "a"), ("y", "x", "a"), ("x", "y", "tie"), ("x", "y", "both_bad"))
    )
    assert counted.models == ("x", "y")
    assert counted.counts.tolist() == [[2, 1, 2]]
    assert counted.both_bad.tolist() == [1]
    assert counted.votes == 5


def test_groups_are_the_connected_sets() -> None:
    counted = tally(cast(("a", "b", "a"), ("c", "b", "a"), ("d", "e", "tie")), models=["f"])
    assert groups(counted) == [["a", "b", "c"], ["d", "e"], ["f"]]
    assert groups(tally([])) == []


def test_reachable_follows_long_chains_one_way() -> None:
    edges = np.eye(20, k=1, dtype=bool)
    assert (reachable(edges) == np.triu(np.ones((20, 20), dtype=bool), 1)).all()
