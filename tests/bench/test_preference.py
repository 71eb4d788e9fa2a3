"""The preference benchmark: its figures, and the budget of ranking."""

from __future__ import annotations

import json

import pytest

from kinema.bench.preference import bench_preference


def test_a_small_run_has_every_figure() -> None:
    found = bench_preference(votes=300, models=4, bootstraps=20, rounds=1)
    assert found["benchmark"] == "preference"
    assert [figure["name"] for figure in found["figures"]] == [
        "fit Davidson",
        "fit Bradley-Terry",
        "bootstraps",
        "exact intervals",
        "Elo over 1000 orders",
    ]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.slow
def test_twenty_thousand_votes_are_ranked_within_the_budget() -> None:
    figures = {figure["name"]: figure for figure in bench_preference(rounds=3)["figures"]}
    for name in ("fit Davidson", "fit Bradley-Terry", "bootstraps"):
        assert figures[name]["met"], figures[name]
