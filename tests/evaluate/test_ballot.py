from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from kinema.evaluate.arena import Arena, ArenaVideo
from kinema.evaluate.ballot import ASKED, CHECK, Asked, Ballot
from kinema.evaluate.votes import VoteError, scored_votes

MODELS, PROMPTS = 3, 8


@pytest.fixture
def arena(tmp_path: Path) -> Arena:
    videos = tuple(
        ArenaVideo(
            video_id=f"m{model}p{prompt}",
            model=f"model-{model}",
            prompt=f"prompt {prompt}",
            file=f"m{model}p{prompt}.mp4",
            sha256=f"{model}{prompt}",
        )
        for prompt in range(PROMPTS)
        for model in range(MODELS)
    )
    return Arena(folder=tmp_path, title="t", axes=("quality", "prompt_following"), videos=videos)


def seeded(arena: Arena, seed: int = 0) -> Ballot:
    return Ballot(arena, np.random.default_rng(seed))


def answer_all(ballot: Ballot, voter: str, most: int, better: str = "model-2") -> list[Asked]:
    """A voter who prefers one model, and sees what is spoiled."""
    seen = []
    while (asked := ballot.next(voter, most)) is not None:
        axis = ballot.open_axis(asked)
        assert axis is not None
        left, right = ballot.video(asked.on("left")), ballot.video(asked.on("right"))
        if asked.is_check:
            said = "left" if left else "right"
        else:
            said = "left" if left.model == better else "right" if right.model == better else "tie"
        assert ballot.answer(asked, axis, said, 2.5)
        if asked not in seen:
            seen.append(asked)
    return seen


def test_a_voter_sees_no_pair_twice_and_ends(arena: Arena) -> None:
    ballot = seeded(arena)
    seen = answer_all(ballot, "ann", most=500)
    pairs = [(asked.first, asked.second) for asked in seen if not asked.is_check]
    assert len(pairs) == len(set(pairs)) == PROMPTS * MODELS  # three pairs of models on every prompt
    assert ballot.next("ann", 500) is None
    assert ballot.answered("ann") == len(seen)
    assert ballot.next("ann", 3) is None


def test_the_open_question_is_the_same_after_a_restart(arena: Arena) -> None:
    ballot = seeded(arena)
    asked = ballot.next("ann", 10)
    ballot.answer(asked, "quality", "left", 1.0)
    again = seeded(arena, seed=7)
    assert again.next("ann", 10) == asked
    assert again.open_axis(asked) == "prompt_following"
    assert again.next("bob", 10) != asked


def test_an_answer_counts_once_whatever_is_sent_again(arena: Arena) -> None:
    ballot = seeded(arena)
    asked = ballot.next("ann", 10)
    assert ballot.answer(asked, "quality", "left", 1.0)
    assert not ballot.answer(asked, "quality", "right", 1.0)
    assert not seeded(arena).answer(asked, "quality", "right", 1.0)
    (vote,) = arena.votes.read()
    assert vote.outcome == asked.shown_first
    with pytest.raises(VoteError, match="'taste' is not asked"):
        ballot.answer(asked, "taste", "left", 1.0)


def test_outcomes_speak_of_models_not_of_sides(arena: Arena) -> None:
    ballot = seeded(arena)
    answer_all(ballot, "ann", most=40)
    votes, careless = scored_votes(arena.votes.read())
    assert careless == ()
    for vote in votes:
        winner = {"a": vote.model_a, "b": vote.model_b}.get(vote.outcome)
        assert (winner == "model-2") == ("model-2" in (vote.model_a, vote.model_b))
    sides = Counter(vote.shown_first for vote in votes)
    assert min(sides.values()) > 0.25 * len(votes)  # left and right are drawn


def test_checks_come_in_every_block_and_find_who_does_not_look(arena: Arena) -> None:
    ballot = seeded(arena)
    seen = answer_all(ballot, "ann", most=24)
    checks = [number for number, asked in enumerate(seen) if asked.is_check]
    assert [number // 8 for number in checks] == [0, 1, 2]
    assert all(number % 8 >= 2 for number in checks)
    while (asked := ballot.next("bot", 24)) is not None:
        ballot.answer(asked, ballot.open_axis(asked), "tie", 0.1)
    votes = arena.votes.read()
    assert all(vote.model_b == CHECK for vote in votes if vote.check_passed is not None)
    kept, careless = scored_votes(votes)
    assert careless == ("bot",)
    assert {vote.voter for vote in kept} == {"ann"}


def test_two_voters_at_once_lose_nothing(arena: Arena) -> None:
    ballot = seeded(arena)
    voters = [Thread(target=answer_all, args=(ballot, name, 20)) for name in ("ann", "bob", "cy")]
    for thread in voters:
        thread.start()
    for thread in voters:
        thread.join()
    votes = arena.votes.read()
    assert len({vote.vote_id for vote in votes}) == len(votes)
    asked = [json.loads(line) for line in (arena.folder / ASKED).read_text().splitlines()]
    assert len(asked) == 60
    checks = sum(not row["second"] for row in asked)
    assert len(votes) == 2 * (60 - checks) + checks


def test_a_torn_line_of_a_killed_server_is_passed_over(arena: Arena) -> None:
    asked = seeded(arena).next("ann", 10)
    with (arena.folder / ASKED).open("a") as file:
        file.write('{"question_id": "12')
    ballot = seeded(arena)
    assert ballot.next("ann", 10) == asked
    answer_all(ballot, "ann", 3)
    assert seeded(arena).answered("ann") == 3


def test_questions_go_where_answers_tell_most(tmp_path: Path) -> None:
    """Two close models among distant ones are asked about more than their share."""
    strengths = {"model-0": 0.0, "model-1": 0.1, "model-2": 4.0, "model-3": -4.0}
    videos = tuple(
        ArenaVideo(video_id=f"{model}-{prompt}", model=model, prompt=str(prompt), file="x.mp4", sha256="0")
        for prompt in range(200)
        for model in strengths
    )
    arena = Arena(folder=tmp_path, title="t", axes=("quality",), videos=videos)
    ballot, generator = seeded(arena), np.random.default_rng(1)
    pairs: Counter[frozenset[str]] = Counter()
    for _ in range(250):
        asked = ballot.next("ann", 10_000)
        left = ballot.video(asked.on("left") or asked.first)
        right = ballot.video(asked.on("right") or asked.first)
        if not asked.is_check:
            pairs[frozenset((left.model, right.model))] += 1
        gap = strengths[left.model] - strengths[right.model]
        ballot.answer(asked, "quality", "left" if generator.random() < 1 / (1 + np.exp(-gap)) else "right", 1)
    assert pairs[frozenset(("model-0", "model-1"))] > 1.3 * sum(pairs.values()) / 6
    assert len(pairs) == 6
