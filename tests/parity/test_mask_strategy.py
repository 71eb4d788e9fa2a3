"""Mask strategies, prompts of several segments and JSON suffixes against the published implementation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kinema.errors import ConfigError
from kinema.generate.conditioning import lay, strengths
from kinema.generate.mask_strategy import (
    parse_mask_strategy,
    prompt_schedule,
    references_of,
    split_suffix,
)

FILE = Path(__file__).parents[1] / "fixtures/opensora/mask_strategy.json"
FACTS: dict[str, Any] = json.loads(FILE.read_text()) if FILE.is_file() else {}
STRATEGIES = FACTS.get("mask_strategies", [])
RESULTS = [case for case in STRATEGIES if "error" not in case]
ERRORS = [case for case in STRATEGIES if "error" in case]


def laid(case: dict[str, Any]) -> tuple[Any, ...]:
    """The case's references on its frames, by kinema."""
    paths = [Path(str(number)) for number in range(len(case["ref_lengths"]))]
    lengths = dict(zip(paths, case["ref_lengths"], strict=True))
    strategy = case["mask_strategy"]
    references = () if strategy is None else references_of(strategy, paths)
    here = [reference for reference in references if reference.segment == case["loop_i"]]
    return lay(here, lengths, case["target_T"])


def test_the_fixture_is_whole() -> None:
    assert (len(STRATEGIES), len(ERRORS)) == (22, 4)


@pytest.mark.parametrize("case", RESULTS, ids=lambda case: f"{case['mask_strategy']}@{case['loop_i']}")
def test_a_strategy_gives_the_same_frames(case: dict[str, Any]) -> None:
    cells = laid(case)
    assert strengths(cells) == case["mask"]
    assert [cell and [int(cell.path.name), cell.frame] for cell in cells] == case["source"]
    if case["parsed"] is not None:
        groups = parse_mask_strategy(case["mask_strategy"])
        fields = [
            [group.loop, group.reference, group.first, group.at, group.frames, group.strength]
            for group in groups
        ]
        assert fields == [[float(value) for value in group] for group in case["parsed"]]


@pytest.mark.parametrize("case", ERRORS, ids=lambda case: repr(case["mask_strategy"]))
def test_what_failed_is_one_clear_line(case: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        laid(case)
    told = str(caught.value)
    assert "\n" not in told
    words = {
        "0,0,0,12,8": "8 frames at 12 end past the output's 16",
        "0,0,10,0,8": "8 frames from 10 on end past its 16",
        "": "the mask strategy is empty",
        "0,0,0,0,1,0,7": "has 7 fields",
    }
    assert words[case["mask_strategy"]] in told


@pytest.mark.parametrize("case", FACTS.get("loop_prompts", []), ids=lambda case: case["prompt"])
def test_a_prompt_of_several_segments(case: dict[str, Any]) -> None:
    assert [prompt_schedule(case["prompt"], case["num_loop"])] == case["result"]


@pytest.mark.parametrize("case", FACTS.get("json_suffix", []), ids=lambda case: case["prompt"])
def test_a_json_suffix(case: dict[str, Any]) -> None:
    """What failed there is text where it is no JSON object, and one clear line where its keys are unknown."""
    unknown = {"two": "'b'", "nested": "'a'", "list": "'x'"}
    if word := unknown.get(case["prompt"].split()[0]):
        with pytest.raises(ConfigError, match=f"has {word}; known are reference_path and mask_strategy"):
            split_suffix(case["prompt"])
        return
    text, suffix = split_suffix(case["prompt"])
    assert text == case.get("text", case["prompt"])
    expected = {"reference_path": "", "mask_strategy": ""} | case.get("info", {})
    assert {"reference_path": suffix.reference_path, "mask_strategy": suffix.mask_strategy} == expected
