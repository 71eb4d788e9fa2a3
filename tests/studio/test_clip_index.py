from __future__ import annotations

from pathlib import Path

import pytest

from kinema.manifest import read_clips, write_clips
from kinema.studio.clip_index import ClipIndex
from kinema.studio.clip_query import PAGE_SIZE, ClipQuery, Condition, read_query


def ids(index: ClipIndex, query: ClipQuery) -> list[str]:
    return [row["clip_id"] for row in index.find(query).rows]


def test_pages_hold_every_clip_once(index: ClipIndex) -> None:
    found = index.find(ClipQuery())
    assert (found.clips, found.kept, found.pages) == (100, 66, 3)
    assert found.hours == pytest.approx(100 / 3600)
    pages = [ids(index, ClipQuery(page=page)) for page in (1, 2, 3)]
    assert [len(page) for page in pages] == [PAGE_SIZE, PAGE_SIZE, 100 - 2 * PAGE_SIZE]
    assert [name for page in pages for name in page] == [
        f"{source}{number:03d}" for source in "ab" for number in range(50)
    ]


def test_captions_are_searched_by_words(index: ClipIndex) -> None:
    assert index.find(ClipQuery(text="dog NUMBER 49")).clips == 2
    assert index.find(ClipQuery(text="cat")).clips == 0


def test_what_was_not_measured_comes_last_both_ways(index: ClipIndex) -> None:
    up = index.find(ClipQuery(sort="motion_score")).rows
    down = index.find(ClipQuery(sort="motion_score", descending=True)).rows
    assert up[0]["motion_score"] == 0.1
    assert down[0]["motion_score"] == 4.9


def test_conditions_are_those_of_the_columns(index: ClipIndex) -> None:
    query, _ = read_query([("where", "motion_score>=4.5"), ("where", "source_path~B.MP4")])
    assert ids(index, query) == ["b045", "b047", "b049"]
    assert index.find(ClipQuery(conditions=(Condition("motion_score", "=", ""),))).clips == 50
    assert index.find(ClipQuery(conditions=(Condition("kept", "=", "no"),))).clips == 34


def test_a_part_that_changes_is_read_again_and_only_that(hundred: Path, index: ClipIndex) -> None:
    rows = [clip for clip in read_clips(hundred) if clip.source_id == "a"][:10]
    write_clips(hundred, "a", rows)
    version = index.version
    index.refresh(now=True)
    assert index.version == version + 1
    assert index.find(ClipQuery()).clips == 60
    (hundred / "clips" / "part-b.parquet").unlink()
    index.refresh(now=True)
    assert index.find(ClipQuery()).clips == 10
    index.refresh(now=True)
    assert index.version == version + 2


def test_one_clip_and_its_kin(index: ClipIndex) -> None:
    row = index.clip("b007")
    assert row is not None
    assert [item["clip_id"] for item in index.near_duplicates(row)] == ["a000", "a007"]
    assert len(index.of_source("b")) == 50
    assert index.full(row).captions[0].text == "A Dog number 7"
    assert index.clip("../../etc/passwd") is None
    assert index.standing("motion_score", 2.5) == pytest.approx(24 / 50)
