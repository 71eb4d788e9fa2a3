"""Conditioning as Open-Sora 1.1 writes it: strings, read into typed references.

A mask strategy is groups joined by ";", each `loop, reference, first, at, frames, strength` joined by ",";
what is left out is `0,0,0,1,0` after the loop. A prompt may end in a JSON object with `reference_path` and
`mask_strategy`, and may say other texts for later loops: `|0|a cat|2|a dog`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.errors import ConfigError
from kinema.generate.conditioning import Reference

_FIELDS = ("loop", "reference", "first", "at", "frames", "strength")
_DEFAULTS = ("0", "0", "0", "0", "1", "0")
_MARKER = re.compile(r"\|(\d+)\|")
_SUFFIX_KEYS = ("reference_path", "mask_strategy")


@dataclass(frozen=True, kw_only=True)
class Group:
    """One group of a mask strategy; `reference` counts the references of the prompt."""

    loop: int
    reference: int
    first: int
    at: int
    frames: int
    strength: float


@dataclass(frozen=True, kw_only=True)
class Suffix:
    """What a prompt's JSON object says; empty where it has none."""

    reference_path: str = ""
    mask_strategy: str = ""


def parse_mask_strategy(strategy: str) -> list[Group]:
    """The groups of a strategy. Raises `ConfigError` that quotes the group which does not fit."""
    if not strategy.strip():
        raise ConfigError('the mask strategy is empty; leave it out, or begin with "0" for the first frame')
    return [_group(number, text) for number, text in enumerate(strategy.split(";"), start=1)]


def references_of(strategy: str, paths: Sequence[Path]) -> tuple[Reference, ...]:
    """A strategy over the prompt's reference files, as typed references in the same order."""
    return tuple(_reference(group, paths) for group in parse_mask_strategy(strategy))


def split_paths(text: str) -> tuple[Path, ...]:
    """`a.png;b.mp4` as paths."""
    return tuple(Path(part.strip()) for part in text.split(";") if part.strip())


def split_suffix(prompt: str) -> tuple[str, Suffix]:
    """The text of a prompt and its JSON object, if it ends in one; any other bracket belongs to the text."""
    for match in re.finditer(r"\{", prompt):
        record = _json_object(prompt[match.start() :])
        if record is not None:
            return prompt[: match.start()], _suffix(record)
    return prompt, Suffix()


def prompt_schedule(prompt: str, segments: int) -> list[str]:
    """The text of each segment: `|0|a cat|2|a dog` is a cat in segments 0 and 1, a dog from 2 on."""
    if not _MARKER.match(prompt):
        return [prompt] * segments
    parts = _MARKER.split(prompt)
    starts, texts = [int(start) for start in parts[1::2]], [text.strip() for text in parts[2::2]]
    if starts[0] != 0 or starts != sorted(set(starts)):
        raise ConfigError(
            f"the prompt's segments begin at {', '.join(map(str, starts))}; "
            "they must begin at 0 and rise, such as |0|a cat|2|a dog"
        )
    if not all(texts):
        raise ConfigError("a segment of the prompt has no text; write one after each marker, as in |0|a cat")
    return [texts[sum(start <= segment for start in starts) - 1] for segment in range(segments)]


def _group(number: int, text: str) -> Group:
    values = [value.strip() for value in text.split(",")]
    if len(values) > len(_FIELDS):
        raise ConfigError(
            f"mask strategy, group {number} ({text!r}) has {len(values)} fields; "
            f"at most {len(_FIELDS)} are known: {', '.join(_FIELDS)}"
        )
    values += _DEFAULTS[len(values) :]
    parsed = dict[str, Any]()
    for name, value in zip(_FIELDS, values, strict=True):
        try:
            parsed[name] = float(value) if name == "strength" else int(value)
        except ValueError:
            kind = "a number from 0 to 1" if name == "strength" else "a whole number"
            raise ConfigError(
                f"mask strategy, group {number} ({text!r}): {name} is {value!r}; write {kind}"
            ) from None
    return Group(**parsed)


def _reference(group: Group, paths: Sequence[Path]) -> Reference:
    if not 0 <= group.reference < len(paths):
        raise ConfigError(
            f"the mask strategy names reference {group.reference}, but there are {len(paths)} "
            "(counted from 0); give the files with --reference"
        )
    return Reference(
        path=paths[group.reference],
        first=group.first,
        at=group.at,
        frames=group.frames,
        strength=group.strength,
        segment=group.loop,
    )


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _suffix(record: dict[str, Any]) -> Suffix:
    for key, value in record.items():
        if key not in _SUFFIX_KEYS:
            raise ConfigError(
                f"the JSON at the end of the prompt has {key!r}; known are {' and '.join(_SUFFIX_KEYS)}"
            )
        if not isinstance(value, str):
            raise ConfigError(f"the JSON at the end of the prompt: {key} must be a string, got {value!r}")
    return Suffix(**record)
