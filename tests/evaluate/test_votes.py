"""The vote store survives kills and two writers; malformed tables are named to the column."""

from __future__ import annotations

import json
import multiprocessing
from pathlib import Path

import pytest

from kinema.errors import OutputError
from kinema.evaluate.votes import Vote, VoteError, VoteStore, read_votes, scored_votes


def vote(number: int = 0, **changes) -> Vote:
    fields = {"vote_id": f"v{number}", "model_a": "x", "model_b": "y", "outcome": "a"}
    return Vote(**fields | changes)


def test_what_is_appended_is_read_back_with_its_provenance(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "deep" / "votes.jsonl")
    full = vote(
        axis="quality",
        voter="ann",
        prompt="ein Käfer läuft",
        video_a="aa",
        video_b="bb",
        shown_first="b",
        took_s=3.5,
        check_passed=True,
        cast_at="2024-05-01T10:00:00Z",
    )
    assert store.append(full)
    assert store.append(vote(1))
    assert read_votes(store.path) == [full, vote(1)]


def test_one_vote_id_counts_once_also_for_another_writer(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    first, second = VoteStore(path), VoteStore(path)
    assert first.append(vote(0))
    assert not second.append(vote(0, outcome="b"))
    assert second.append(vote(1))
    assert not first.append(vote(1))
    assert [item.outcome for item in VoteStore(path).read()] == ["a", "a"]


def test_an_unfinished_line_is_ignored_and_closed(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    VoteStore(path).append(vote(0))
    with path.open("a") as handle:
        handle.write('{"vote_id": "torn", "model_a": "x", "mod')
    assert VoteStore(path).read() == [vote(0)]
    assert VoteStore(path).append(vote(1))
    assert VoteStore(path).read() == [vote(0), vote(1)]


def _write_many(path: Path, writer: int) -> None:
    store = VoteStore(path)
    for number in range(40):
        store.append(vote(0, vote_id=f"{writer}-{number}", prompt="long " * 200))
        store.append(vote(0, vote_id=f"shared-{number}"))


def test_two_writers_lose_nothing_and_count_nothing_twice(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    spawn = multiprocessing.get_context("fork")
    writers = [spawn.Process(target=_write_many, args=(path, number)) for number in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = [json.loads(line)["vote_id"] for line in path.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 120


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"votes\.jsonl"):
        VoteStore(tmp_path / "file" / "votes.jsonl").append(vote())


def test_a_store_with_a_wrong_row_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "votes.jsonl"
    path.write_text('{"vote_id": "1", "model_a": "x", "model_b": "x", "outcome": "a"}\n')
    with pytest.raises(VoteError, match=r"votes\.jsonl: line 1: a vote needs two models"):
        read_votes(path)
    path.write_text('\n{"vote_id": "1", "model_a": "x", "model_b": "y", "outcome": "a", "rating": 3}\n')
    with pytest.raises(VoteError, match="line 2: unknown key rating"):
        read_votes(path)


def test_csv_with_optional_columns_blank_lines_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(
        "\ufeffvoter,Model_A,model_b,outcome,axis,note\nann, x ,y,TIE,quality,hm\n\nbob,y,x,b,,\n"
    )
    first, second = read_votes(path)
    assert (first.model_a, first.outcome, first.axis, first.voter) == ("x", "tie", "quality", "ann")
    assert (second.model_a, second.axis, second.vote_id) == ("y", "overall", "line-4")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_other_delimiters_and_spellings_of_an_outcome(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "votes.csv"
    rows = (
        ("model_a", "model_b", "Outcome"),
        ("x", "y", "Both bad"),
        ("x", "y", "BOTH-BAD"),
        ("x", "y", "A"),
    )
    path.write_text("".join(delimiter.join(row) + "\r\n" for row in rows))
    assert [item.outcome for item in read_votes(path)] == ["both_bad", "both_bad", "a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column model_a"),
        (
            "model_a,model_b,winner\nx,y,a\n",
            "line 1, column outcome: needed once, found model_a, model_b, winner",
        ),
        ("model_a,model_b,outcome\nx,y,left\n", "line 2, column outcome: got 'left'; use one of a, b, tie"),
        ("model_a,model_b,outcome\nx,x,a\n", "line 2, column model_b: 'x' is compared with itself"),
        ("model_a,model_b,outcome\nx,y,a\n,y,a\n", "line 3, column model_a: empty"),
        ("model_a,model_b,outcome\nx,y\n", "line 2: 2 cells where the header has 3"),
        ("model_a,model_b,outcome\nx,y,a,b\n", "line 2: 4 cells where the header has 3"),
        ('model_a,model_b,outcome\n"x,y,a\n', "not a CSV table"),
    ],
)
def test_malformed_tables_name_file_line_column_and_mend(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "votes.csv"
    path.write_text(text)
    with pytest.raises(VoteError) as caught:
        read_votes(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_file_and_wrong_encoding_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(VoteError, match="no such file"):
        read_votes(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("model_a,model_b,outcome\nä,y,a\n".encode("latin-1"))
    with pytest.raises(VoteError, match="not UTF-8"):
        read_votes(tmp_path / "latin.csv")


def test_attention_checks_are_not_votes_and_careless_voters_do_not_count() -> None:
    votes = [
        vote(0, voter="ann"),
        vote(1, voter="ann", check_passed=True),
        vote(2, voter="bob"),
        vote(3, voter="bob", check_passed=False),
    ]
    kept, careless = scored_votes(votes)
    assert [item.vote_id for item in kept] == ["v0"]
    assert careless == ("bob",)


@pytest.mark.parametrize(
    "change", [{"outcome": "left"}, {"model_b": "x"}, {"shown_first": "c"}, {"axis": ""}]
)
def test_a_vote_refuses_nonsense(change: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"got|needs"):
        vote(**change)
