"""From a vote file to a ranking, and how fast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from kinema.evaluate.preference import (
    DisconnectedVotesError,
    PreferenceConfig,
    fit_votes,
    rank,
    simulate_votes,
)
from kinema.evaluate.votes import Vote, VoteError

QUICK = PreferenceConfig(bootstraps=50, elo_orders=20)


def write(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(["model_a,model_b,outcome,axis,voter", *rows]) + "\n")
    return path


def test_ranking_of_a_file_is_json_with_both_axes(tmp_path: Path) -> None:
    rows = [
        "x,y,a,quality,ann",
        "y,x,a,quality,bob",
        "x,y,a,quality,bob",
        "y,x,both_bad,prompt_following,ann",
    ]
    found = fit_votes(write(tmp_path / "votes.csv", *rows), QUICK)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert sorted(found["axes"]) == ["prompt_following", "quality"]
    best = found["axes"]["quality"]["models"][0]
    assert (best["model"], best["rank"], best["wins"], best["losses"]) == ("x", 1, 2, 1)
    assert best["elo"] > 1000
    assert best["exact_interval"][0] < best["davidson"] < best["exact_interval"][1]
    tied = found["axes"]["prompt_following"]
    assert tied["both_bad_rate"] == 1.0
    assert [row["rank"] for row in tied["models"]] == [1, 1]


def test_all_scales_order_the_models_alike_and_a_rerun_is_equal() -> None:
    votes = simulate_votes(3000, [0.0, 0.6, 1.2], 0.5, np.random.default_rng(0))
    found = rank(votes, QUICK)
    for scale in ("elo", "bradley_terry", "davidson"):
        values = [row[scale] for row in found["models"]]
        assert values == sorted(values, reverse=True)
    assert [row["model"] for row in found["models"]] == ["model-2", "model-1", "model-0"]
    assert np.mean([row["davidson"] for row in found["models"]]) == pytest.approx(1000)
    assert rank(votes, QUICK) == found


def test_ties_alone_tell_nothing_and_say_so(tmp_path: Path) -> None:
    found = fit_votes(write(tmp_path / "v.csv", "x,y,tie,,", "y,x,both_bad,,"), QUICK)["axes"]["overall"]
    assert found["warnings"][0].startswith("no vote has a winner")
    assert {row["rank"] for row in found["models"]} == {1}
    assert all(row["exact_interval"] == [None, None] for row in found["models"])


def test_a_model_that_won_every_vote_is_named_and_its_interval_is_open(tmp_path: Path) -> None:
    found = fit_votes(write(tmp_path / "v.csv", "x,y,a,,", "x,z,a,,", "y,z,a,,", "z,y,a,,"), QUICK)["axes"][
        "overall"
    ]
    assert "x won every vote" in found["warnings"][0]
    assert found["models"][0]["model"] == "x"
    assert found["models"][0]["exact_interval"][1] is None
    assert found["models"][0]["exact_interval"][0] is not None


def test_groups_without_a_comparison_are_named(tmp_path: Path) -> None:
    with pytest.raises(DisconnectedVotesError, match=r"u, v; x, y\. Add votes between them") as caught:
        fit_votes(write(tmp_path / "v.csv", "x,y,a,,", "u,v,a,,"), QUICK)
    assert caught.value.apart == [["u", "v"], ["x", "y"]]
    assert "\n" not in str(caught.value)


def test_no_votes_and_one_model(tmp_path: Path) -> None:
    with pytest.raises(VoteError, match="no votes to count"):
        fit_votes(write(tmp_path / "v.csv"), QUICK)
    with pytest.raises(VoteError, match="no models"):
        rank([])
    assert rank([], models=["only"])["models"] == [{"model": "only", "rank": 1, "davidson": 1000.0}]
    with pytest.raises(DisconnectedVotesError):
        rank([], models=["x", "y"])


def test_careless_voters_are_reported_and_left_out(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    rows = [
        {"vote_id": "1", "model_a": "x", "model_b": "y", "outcome": "a", "voter": "ann"},
        {"vote_id": "2", "model_a": "x", "model_b": "y", "outcome": "b", "voter": "bob"},
        {
            "vote_id": "3",
            "model_a": "x",
            "model_b": "y",
            "outcome": "b",
            "voter": "bob",
            "check_passed": False,
        },
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = fit_votes(path, QUICK)
    assert found["excluded_voters"] == ["bob"]
    assert found["votes"] == 1


def test_resampling_voters_and_no_bootstraps() -> None:
    votes = [
        Vote(vote_id=str(n), model_a="x", model_b="y", outcome="ab"[n % 4 == 0], voter=str(n // 6))
        for n in range(30)
    ]
    people = rank(votes, PreferenceConfig(bootstraps=50, elo_orders=5, resample="voters"))
    assert people["models"][0]["bootstrap_interval"][0] < people["models"][0]["davidson"]
    with pytest.raises(VoteError, match="add a voter column"):
        rank(votes[:6], PreferenceConfig(bootstraps=50, elo_orders=5, resample="voters"))
    none = rank(votes, PreferenceConfig(bootstraps=0, elo_orders=5))
    assert none["models"][0]["bootstrap_interval"] is None


def test_the_table_in_the_documentation_can_be_ranked(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "preferences.md").read_text()
    (tmp_path / "votes.csv").write_text(page.split("```csv votes.csv\n")[1].split("```")[0])
    found = fit_votes(tmp_path / "votes.csv", QUICK)["axes"]["quality"]
    assert found["models"][0]["model"].startswith("motion")
    assert found["agreement"]["by"] == "prompt"


@pytest.mark.parametrize("change", [{"confidence": 1.0}, {"bootstraps": -1}, {"resample": "people"}])
def test_the_config_refuses_nonsense(change) -> None:
    with pytest.raises(ValueError, match=r"got|must"):
        PreferenceConfig(**change)
