from __future__ import annotations

from pathlib import Path

import pytest

from kinema.errors import ConfigError
from kinema.generate.mask_strategy import (
    prompt_schedule,
    references_of,
    split_paths,
    split_suffix,
)


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("0,x", r"group 1 \('0,x'\): reference is 'x'; write a whole number"),
        ("0;0,0,0,0,1,much", r"group 2 .*strength is 'much'; write a number from 0 to 1"),
        ("0,2", "names reference 2, but there are 1"),
        ("0,0,0,0,1,1.5", "strength is from 0 to 1, got 1.5"),
        ("0,0,0,0,0", "frames must be at least 1"),
        ("-1", "segments count from 0"),
    ],
)
def test_a_group_that_does_not_fit_is_quoted(strategy: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        references_of(strategy, [Path("a.png")])


def test_paths_are_split() -> None:
    assert split_paths("a.png; b.mp4;") == (Path("a.png"), Path("b.mp4"))


@pytest.mark.parametrize("prompt", ["a {curly} sign", "[a] list", 'he said {"yes"}', "a {", "x [1] {2}"])
def test_a_prompt_may_hold_brackets(prompt: str) -> None:
    assert split_suffix(prompt)[0] == prompt


def test_brackets_before_a_suffix_stay_in_the_text() -> None:
    text, suffix = split_suffix('a {b} [c]{"mask_strategy": "0", "reference_path": "{x}.png"}')
    assert (text, suffix.mask_strategy, suffix.reference_path) == ("a {b} [c]", "0", "{x}.png")


def test_a_suffix_holds_strings() -> None:
    with pytest.raises(ConfigError, match="mask_strategy must be a string, got 0"):
        split_suffix('a cat{"mask_strategy": 0}')


@pytest.mark.parametrize("prompt", ["|1|a cat", "|0|a|2|b|1|c", "|0|a|0|b", "|0|a|1|"])
def test_a_schedule_that_does_not_rise_is_refused(prompt: str) -> None:
    with pytest.raises(ConfigError, match=r"segment"):
        prompt_schedule(prompt, 3)


def test_a_bar_elsewhere_is_text() -> None:
    assert prompt_schedule("a |2| b", 2) == ["a |2| b"] * 2
