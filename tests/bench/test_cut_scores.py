from __future__ import annotations

import os
from pathlib import Path

import pytest

from kinema.bench.cut_scores import CutScore, Truth, edges_of
from kinema.bench.cuts import cut_quality_figures
from kinema.curate.cuts import Transition

TRUTH = Truth(
    path=Path("a.mp4"),
    frames=300,
    transitions=[
        {"type": "hard", "frame": 50},
        {"type": "dissolve", "start": 100, "end": 120, "frame": 110},
        {"type": "fade", "start": 200, "end": 230, "frame": 215},
    ],
)


def score(*edges: int) -> CutScore:
    made = CutScore()
    made.add(TRUTH, edges)
    return made


def test_exact_edges_score_one_and_nothing_scores_nothing() -> None:
    assert score(50, 100, 120, 200, 230).f1 == 1.0
    assert score().f1 == 0.0


@pytest.mark.parametrize(("edge", "found"), [(48, 1), (52, 1), (47, 0), (53, 0)])
def test_a_hard_cut_is_found_within_two_frames(edge: int, found: int) -> None:
    made = score(edge)
    assert made.found["hard"] == found
    assert made.false_edges == 1 - found


@pytest.mark.parametrize(("edge", "found"), [(94, 1), (125, 1), (93, 0), (126, 0)])
def test_a_dissolve_is_found_within_six_frames_of_its_extent(edge: int, found: int) -> None:
    made = score(edge)
    assert made.found["dissolve"] == found
    assert made.false_edges == 1 - found


def test_both_edges_of_one_transition_count_once_and_false_edges_each() -> None:
    made = score(50, 100, 120, 215, 20, 280)
    assert (made.recall, made.false_edges) == (1.0, 2)
    assert made.precision == pytest.approx(3 / 5)


def test_the_ends_of_the_source_are_no_edges() -> None:
    assert score(0, 300).false_edges == 0
    fade = Transition(start_index=0, end_index=20, kind="fade")
    assert sorted(edges_of([fade, Transition(start_index=9, end_index=9, kind="hard")])) == [0, 9, 20]


@pytest.mark.slow
def test_targets_on_spliced_footage() -> None:
    root = os.environ.get("KINEMA_FOOTAGE")
    if not root or not (Path(root) / "spliced" / "cuts.json").is_file():
        pytest.skip("set KINEMA_FOOTAGE to a folder that holds spliced/cuts.json")
    figures = cut_quality_figures(Path(root) / "spliced", peers=False)
    assert [figure.name for figure in figures if figure.met is False] == []
