"""An arena folder names its videos by ids that tell nothing, and is read back as written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.evaluate.arena import create_arena, read_arena
from kinema.evaluate.votes import Vote, VoteError


def samples(root: Path, model: str, prompts: tuple[str, ...]) -> Path:
    folder = root / model
    folder.mkdir()
    for number, prompt in enumerate(prompts):
        (folder / f"{number:03d}.mp4").write_bytes(f"{model} {number}".encode())
        (folder / f"{number:03d}.mp4.json").write_text(json.dumps({"prompt": prompt}))
    return folder


def test_an_arena_is_read_back_with_every_comparison(tmp_path: Path) -> None:
    places = {name: samples(tmp_path, name, ("a dog", "a cat")) for name in ("raw", "best", "half")}
    places["other"] = samples(tmp_path, "other", ("a fish",))
    made = create_arena(tmp_path / "arena", "Which filter?", places)
    assert read_arena(tmp_path / "arena") == made
    assert made.models == ("best", "half", "other", "raw")
    told = [(question.prompt, question.first.model, question.second.model) for question in made.questions()]
    pairs = [("best", "half"), ("best", "raw"), ("half", "raw")]
    assert told == [(prompt, *pair) for prompt in ("a dog", "a cat") for pair in pairs]
    assert len({video.video_id for video in made.videos}) == 7
    assert made.path(made.videos[0]).read_bytes() == b"raw 0"


def test_an_arena_keeps_its_votes_when_written_again(tmp_path: Path) -> None:
    places = {name: samples(tmp_path, name, ("a dog",)) for name in ("raw", "best")}
    vote = Vote(vote_id="1", model_a="raw", model_b="best", outcome="b")
    create_arena(tmp_path / "arena", "t", places).votes.append(vote)
    assert create_arena(tmp_path / "arena", "t", places).votes.read() == [vote]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    one, other = samples(tmp_path, "one", ("a dog",)), samples(tmp_path, "other", ("a cat",))
    with pytest.raises(VoteError, match="two models or more, got one"):
        create_arena(tmp_path / "arena", "t", {"one": one})
    with pytest.raises(VoteError, match="no prompt has videos of two models"):
        create_arena(tmp_path / "arena", "t", {"one": one, "other": other})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is no arena"),
        ("{", "cannot be read as JSON"),
        ('{"videos": 3}', "should be a list of tables"),
        ('{"videos": [{"video_id": "x", "path": "y"}]}', "unknown key 'path'"),
    ],
)
def test_a_damaged_arena_is_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "arena.json").write_text(text)
    with pytest.raises(VoteError, match=message):
        read_arena(tmp_path)
