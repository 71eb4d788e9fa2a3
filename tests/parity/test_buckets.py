"""Bucket assignment and batch order against numbers of the published implementation."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from kinema.dataset.buckets import (
    BucketRule,
    ClipShape,
    assign_published,
    bucket_count,
    bucket_rules,
    ordered_rules,
    published_row_seed,
)
from kinema.dataset.presets import STAGES
from kinema.shapes import Size, resolution


def fixture_file(config: pytest.Config, name: str) -> Path:
    path = config.getoption("fixtures_folder") / "opensora" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="module")
def facts(pytestconfig: pytest.Config) -> dict[str, Any]:
    return json.loads(fixture_file(pytestconfig, "bucket_assignment.json").read_text())


@pytest.fixture(scope="module")
def rows(pytestconfig: pytest.Config) -> list[dict[str, str]]:
    with fixture_file(pytestconfig, "bucket_assignment.csv").open() as file:
        return list(csv.DictReader(file))


def rules_of(table: dict[str, dict[str, list[Any]]], *, forced: bool = False) -> tuple[BucketRule, ...]:
    return bucket_rules(
        {
            name: {
                int(frames): (1.0 if forced and prob > 0 else prob, size)
                for frames, (prob, size) in lengths.items()
            }
            for name, lengths in table.items()
        }
    )


def shape_of(row: dict[str, str]) -> ClipShape:
    return ClipShape(frames=int(row["num_frames"]), height=int(row["height"]), width=int(row["width"]))


def cell(shape: ClipShape, rule: BucketRule | None) -> str:
    if rule is None:
        return ""
    bucket = shape.bucket(rule)
    return f"{bucket.resolution}|{bucket.frames}|{bucket.aspect_ratio}|{bucket.frames}x{bucket.size}"


def test_aspect_ratio_tables(facts: dict[str, Any]) -> None:
    for name, table in facts["aspect_ratios"].items():
        assert resolution(name).area == table["area"]
        assert resolution(name).sizes == {key: Size(*size) for key, size in table["ratios"].items()}


def test_bucket_numbers(facts: dict[str, Any]) -> None:
    for stage, table in facts["configs"].items():
        rules = rules_of(table)
        assert bucket_count(rules) == facts["num_bucket"][stage]
        for position, rule in enumerate(ordered_rules(rules)):
            assert facts["bucket_id"][stage][rule.resolution][str(rule.frames)] == position


def test_presets_are_the_published_tables(facts: dict[str, Any]) -> None:
    for stage in STAGES.keys() & facts["configs"].keys():
        assert set(STAGES[stage]) == set(rules_of(facts["configs"][stage]))


@pytest.mark.parametrize("forced", [True, False], ids=["forced", "real"])
def test_assignment(facts: dict[str, Any], rows: list[dict[str, str]], forced: bool) -> None:
    for stage, table in facts["configs"].items():
        rules = rules_of(table, forced=forced)
        column = f"{stage}_{'forced' if forced else 'real'}"
        for row in rows:
            shape = shape_of(row)
            seed = published_row_seed(
                rules, seed=facts["sampler_seed"], epoch=int(row["epoch"]), row=int(row["index"])
            )
            rule = assign_published(shape, rules, facts["frame_interval"], seed)
            assert cell(shape, rule) == row[column], f"row {row['index']}, {column}"
