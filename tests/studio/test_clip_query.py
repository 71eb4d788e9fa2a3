from __future__ import annotations

import pytest

from kinema.studio.clip_query import COLUMNS, ClipQuery, Condition, read_query


def test_an_address_is_read_and_written_alike() -> None:
    pairs = [
        ("q", "a dog"),
        ("kept", "kept"),
        ("where", "motion_score>=2"),
        ("where", "source_path~street"),
        ("sort", "-duration_s"),
        ("page", "3"),
    ]
    query, faults = read_query(pairs)
    assert not faults
    assert query.pairs() == pairs
    assert query.conditions == (
        Condition("motion_score", ">=", "2"),
        Condition("source_path", "~", "street"),
    )


def test_another_filter_begins_at_page_one() -> None:
    query, _ = read_query([("page", "3"), ("where", "fps=24")])
    assert query.address(kept="kept") == "kept=kept&where=fps%3D24"
    assert query.without(query.conditions[0]) == ""
    assert query.address(page=4).endswith("page=4")


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        (("where", "nonsense"), "is no condition"),
        (("where", "1=1; drop table clips"), "There is no column '1'"),
        (("where", "motion_score>=many"), "'many' is none"),
        (("sort", "clip_id; drop table clips"), "no column"),
        (("sort", "-password"), "no column"),
    ],
)
def test_what_is_not_understood_is_said_and_left_out(pair: tuple[str, str], told: str) -> None:
    query, faults = read_query([pair])
    assert query == ClipQuery(descending=pair[1].startswith("-") and pair[0] == "sort")
    assert told in faults[0]


def test_values_never_become_sql() -> None:
    query, _ = read_query([("q", "a' OR 1=1 --"), ("where", "source_path=x' OR '1'='1")])
    clause, values = query.where()
    assert "OR" not in clause
    assert values == ["a'", "or", "1=1", "--", "x' OR '1'='1"]


def test_the_form_adds_a_condition() -> None:
    query, _ = read_query([("where", "fps=24"), ("column", "side"), ("sign", "<="), ("value", "720")])
    assert [str(item) for item in query.conditions] == ["fps=24", "side<=720"]


def test_every_score_can_be_sorted_by() -> None:
    assert COLUMNS["motion_score"] == "number"
    assert COLUMNS["kept"] == "flag"
    assert COLUMNS["caption_text"] == "text"
