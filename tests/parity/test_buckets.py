"""Bucket assignment and batch order against numbers of the published implementation."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

from kinema.dataset.buckets import (
    BucketRule,
    ClipShape,
    Placed,
    Published,
    RuleTable,
    assign_published,
    bucket_rules,
    published_row_seed,
)
from kinema.dataset.config import DataConfig
from kinema.dataset.presets import STAGES
from kinema.dataset.published import PublishedSchedule
from kinema.dataset.schedule import PlannedBatch
from kinema.manifest import Clip
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


def cell(placed: Placed | None) -> str:
    if placed is None:
        return ""
    bucket = placed.bucket
    return f"{bucket.resolution}|{bucket.frames}|{bucket.aspect_ratio}|{bucket.frames}x{bucket.size}"


def test_aspect_ratio_tables(facts: dict[str, Any]) -> None:
    for name, table in facts["aspect_ratios"].items():
        assert resolution(name).area == table["area"]
        assert resolution(name).sizes == {key: Size(*size) for key, size in table["ratios"].items()}


def test_bucket_numbers(facts: dict[str, Any]) -> None:
    for stage, table in facts["configs"].items():
        rules = RuleTable(rules_of(table))
        assert rules.bucket_count == facts["num_bucket"][stage]
        for position, rule in enumerate(rules.ordered):
            assert facts["bucket_id"][stage][rule.resolution][str(rule.frames)] == position


def test_presets_are_the_published_tables(facts: dict[str, Any]) -> None:
    for stage in STAGES.keys() & facts["configs"].keys():
        assert set(STAGES[stage]) == set(rules_of(facts["configs"][stage]))


@pytest.mark.parametrize("forced", [True, False], ids=["forced", "real"])
def test_assignment(facts: dict[str, Any], rows: list[dict[str, str]], forced: bool) -> None:
    for stage, table in facts["configs"].items():
        rules = RuleTable(rules_of(table, forced=forced))
        column = f"{stage}_{'forced' if forced else 'real'}"
        for row in rows:
            shape = shape_of(row)
            seed = published_row_seed(
                rules, seed=facts["sampler_seed"], epoch=int(row["epoch"]), row=int(row["index"])
            )
            placed = assign_published(shape, rules, facts["frame_interval"], seed)
            assert cell(placed) == row[column], f"row {row['index']}, {column}"


@pytest.fixture(scope="module")
def sampler(pytestconfig: pytest.Config) -> dict[str, Any]:
    return json.loads(fixture_file(pytestconfig, "sampler_batches.json").read_text())


@pytest.fixture(scope="module")
def schedule(facts: dict[str, Any], rows: list[dict[str, str]], sampler: dict[str, Any]) -> PublishedSchedule:
    bucketing = Published(
        frame_interval=facts["frame_interval"], drop_last=sampler["drop_last"], shuffle=sampler["shuffle"]
    )
    config = DataConfig(buckets=rules_of(sampler["bucket_config"]), bucketing=bucketing, seed=sampler["seed"])
    return PublishedSchedule([clip_of(row) for row in rows], config, bucketing)


def clip_of(row: dict[str, str]) -> Clip:
    height, width, fps = int(row["height"]), int(row["width"]), float(row["fps"] or 0)
    return Clip(
        clip_id=row["index"],
        source_id="",
        source_path="",
        start_frame=0,
        end_frame=int(row["num_frames"]),
        start_s=0.0,
        end_s=0.0,
        cut_kind_start="",
        cut_kind_end="",
        frames=int(row["num_frames"]),
        fps=fps,
        width=width,
        height=height,
        aspect_ratio=height / width,
        duration_s=0.0,
    )


def text_of(batch: PlannedBatch) -> list[str]:
    size = batch.bucket.size
    return [f"{s.clip.clip_id}-{batch.bucket.frames}-{size.height}-{size.width}" for s in batch.samples]


def epoch_start(schedule: PublishedSchedule, epoch: int, world: int) -> int:
    return sum(len(schedule.epoch_batches(before, 0, world)) for before in range(epoch))


def test_batches_of_every_epoch_and_rank(schedule: PublishedSchedule, sampler: dict[str, Any]) -> None:
    world = sampler["world_size"]
    for name, run in sampler["runs"].items():
        found = re.fullmatch(r"epoch(\d+)_rank(\d+)", name)
        assert found, f"unknown run {name}"
        epoch, rank = map(int, found.groups())
        first = epoch_start(schedule, epoch, world)
        batches = [schedule.batch(first + step, rank, world) for step in range(len(run["batches"]))]
        assert [text_of(batch) for batch in batches] == run["batches"], name
        assert {batch.epoch for batch in batches} == {epoch}
        assert len(schedule.epoch_batches(epoch, rank, world)) == len(run["batches"])


def test_resume_in_the_middle(schedule: PublishedSchedule, sampler: dict[str, Any]) -> None:
    world = sampler["world_size"]
    resumes = {name: run for name, run in sampler.items() if name.startswith("resume_")}
    for name, run in resumes.items():
        found = re.fullmatch(r"resume_epoch(\d+)_rank(\d+)_after(\d+)", name)
        assert found, f"unknown run {name}"
        epoch, rank, done = map(int, found.groups())
        assert run["state_dict"]["last_micro_batch_access_index"] == done * world
        first = epoch_start(schedule, epoch, world) + done
        batches = [schedule.batch(first + step, rank, world) for step in range(len(run["batches"]))]
        assert [text_of(batch) for batch in batches] == run["batches"], name
