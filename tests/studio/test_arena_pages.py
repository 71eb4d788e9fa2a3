from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kinema.evaluate.arena import create_arena
from kinema.evaluate.votes import Vote, VoteStore
from kinema.files import write_text
from kinema.video.reader import read_frames
from kinema.video.writer import write_video

from .conftest import Opener, concrete, form_token, place_id, routes

TOKEN = "a-token-for-these-tests"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, three prompts; amber is bright, umber dark."""
    folder = tmp_path_factory.mktemp("arena")
    for model, level in (("amber", 200), ("umber", 60)):
        for number in range(3):
            path = folder / model / f"{number}.mp4"
            write_video(path, np.full((6, 48, 64, 3), level + 9 * number, np.uint8), fps=12)
            write_text(path.with_name(path.name + ".json"), f'{{"prompt": "prompt {number}"}}')
    create_arena(folder / "arena", "Shades", {name: folder / name for name in ("amber", "umber")})
    return folder / "arena"


@pytest.fixture
def owner(studio: Opener, arena: Path):
    for name in ("votes.jsonl", "asked.jsonl"):
        (arena / name).unlink(missing_ok=True)
    client = studio(arena, token=TOKEN)
    client.get(f"/enter?token={TOKEN}")
    return client


def link(owner, questions: int = 30) -> str:
    """A voter's link, as the page shows it."""
    form = {"csrf": form_token(owner), "label": "friends", "questions": str(questions)}
    page = owner.post(f"/arena/{place_id(owner, 'arena')}/links", data=form).text
    return re.search(r'value="(http://[^"]+/vote/enter/[^"]+)"', page)[1]


def voter(owner, address: str):
    """Another browser on the same server."""
    from starlette.testclient import TestClient

    client = TestClient(owner.app, base_url="http://127.0.0.1:8600")
    assert client.get(address).url.path == "/vote"
    return client


def fields(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def test_a_voter_votes_and_the_page_does_not_tell_who_is_who(owner, arena: Path) -> None:
    client = voter(owner, link(owner))
    page = client.get("/vote").text
    for secret in ("amber", "umber", "Shades", *(path.name for path in arena.parent.rglob("*.mp4"))):
        assert secret not in page
    form = fields(page) | {"answer": "left", "took_ms": "1234"}
    assert client.get(f"/vote/video/{form['question']}/left.mp4").headers["content-type"] == "video/mp4"
    assert "Which video shows more" in client.post("/vote/answer", data=form).text
    client.post("/vote/answer", data=form)  # the same request once more
    (vote,) = VoteStore(arena / "votes.jsonl").read()
    assert (vote.axis, vote.took_s, vote.check_passed) == ("quality", 1.234, None)


def test_votes_are_in_the_ranking(owner, arena: Path) -> None:
    client = voter(owner, link(owner, questions=3))
    while "Thank you" not in (page := client.get("/vote").text):
        form = fields(page)
        asked = owner.app.state.studio.ballot(owner.app.state.studio.places.all("arena")[0])
        question = asked.question(next(iter(asked._asked)), form["question"])
        left, right = (asked.video(question.on(side)) for side in ("left", "right"))
        worse = left is None or (right is not None and left.model == "umber")  # None: spoilt as a check
        form["answer"] = "right" if worse else "left"
        assert client.post("/vote/answer", data=form).status_code == 200
    page = owner.get("/arena").text
    assert page.index(">amber<") < page.index(">umber<")
    assert "95 % interval" in page
    assert "Open links" in page


def test_groups_that_no_vote_connects_are_ranked_each_by_itself(owner, arena: Path) -> None:
    store = VoteStore(arena / "votes.jsonl")
    for number, (first, second) in enumerate([("amber", "umber"), ("slate", "ivory"), ("slate", "ivory")]):
        vote = Vote(model_a=first, model_b=second, outcome="a", axis="quality", vote_id=str(number))
        store.append(vote)
    page = owner.get("/arena").text
    assert "each has its own ranking" in page
    quality = page[page.index("<h2>Quality") : page.index("<h2>Prompt following")]
    names = re.findall(r'scope="row">(amber|umber|slate|ivory)<', quality)
    assert names in (["slate", "ivory", "amber", "umber"], ["amber", "umber", "slate", "ivory"])
    assert quality.count("<table") == 2


def test_who_comes_back_goes_on_and_another_begins(owner) -> None:
    address = link(owner)
    client = voter(owner, address)
    question = fields(client.get("/vote").text)["question"]
    assert fields(client.get(address).text)["question"] == question
    assert fields(voter(owner, address).get("/vote").text)["question"] != question


def test_a_voter_can_do_nothing_else(owner) -> None:
    client = voter(owner, link(owner))
    own = {(method, path) for method, path in routes(owner) if path.startswith("/vote")}
    for method, path in routes(owner):
        if (method, path) not in own and path not in ("/", "/enter"):
            assert client.request(method, concrete(path)).status_code in (401, 403), (method, path)
    other = voter(owner, link(owner))
    question = fields(other.get("/vote").text)["question"]
    assert client.get(f"/vote/video/{question}/left.mp4").status_code == 404
    form = fields(client.get("/vote").text) | {"question": question, "answer": "left"}
    assert client.post("/vote/answer", data=form).status_code == 404


@pytest.mark.parametrize(
    "change", [{"csrf": "x"}, {"answer": "a"}, {"axis": "taste"}, {"question": "../../x"}]
)
def test_a_forged_answer_is_refused(owner, arena: Path, change: dict[str, str]) -> None:
    client = voter(owner, link(owner))
    form = fields(client.get("/vote").text) | {"answer": "left"} | change
    assert client.post("/vote/answer", data=form).status_code in (400, 403, 404)
    assert VoteStore(arena / "votes.jsonl").read() == []


def test_a_link_that_is_taken_back_opens_nothing(owner) -> None:
    address = link(owner)
    client = voter(owner, address)
    base = f"/arena/{place_id(owner, 'arena')}"
    revoke = re.search(r'action="([^"]+/revoke)"', owner.get(base).text)[1]
    assert owner.post(revoke, data={"csrf": form_token(owner)}).status_code == 200
    assert client.get("/vote").status_code == 403
    assert client.get(address).status_code == 403
    assert "Open links" not in owner.get(base).text


def test_the_secrets_on_disk_are_hashes(owner, tmp_path: Path) -> None:
    token = link(owner).rpartition("/")[2]
    assert token not in (tmp_path / "made" / "links.jsonl").read_text()
    assert TOKEN not in "".join(
        path.read_text("latin1") for path in (tmp_path / "made").rglob("*") if path.is_file()
    )


def test_an_attention_check_shows_a_spoiled_copy(owner, arena: Path, tmp_path: Path) -> None:
    client = voter(owner, link(owner))
    open_question = fields(client.get("/vote").text)["question"]
    ballot = owner.app.state.studio.ballot(owner.app.state.studio.places.all("arena")[0])
    (name,) = ballot._asked
    first = ballot.question(name, open_question)
    check = replace(first, question_id="f" * 24, second="", shown_first="b")
    ballot._remember(check)
    spoiled, whole = (client.get(f"/vote/video/{'f' * 24}/{side}.mp4").content for side in ("left", "right"))
    assert whole == ballot.arena.path(ballot.video(first.first)).read_bytes()
    (tmp_path / "spoiled.mp4").write_bytes(spoiled)
    frames = read_frames(tmp_path / "spoiled.mp4", [0.0])
    assert frames.std() > 20  # the whole one is one plain colour
    form = fields(client.get("/vote").text) | {"question": "f" * 24, "answer": "right"}
    assert client.post("/vote/answer", data=form).status_code == 200
    (vote,) = VoteStore(arena / "votes.jsonl").read()
    assert (vote.outcome, vote.check_passed) == ("a", True)
