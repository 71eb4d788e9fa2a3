"""Filters and scores in plain words, for pages that people read."""

from __future__ import annotations

from typing import NamedTuple

from kinema.curate.filters import Check
from kinema.page.charts import number


class _Words(NamedTuple):
    """`below` and `above` say what a filter drops, around a value in `unit`s of 1 / `scale`."""

    name: str
    below: str
    above: str
    unit: str = ""
    scale: float = 1.0


_WORDS = {
    "duration_s": _Words("length", "shorter than {}", "longer than {}", " s"),
    "side": _Words("shorter side", "picture smaller than {}", "picture larger than {}", " pixels"),
    "aspect_ratio": _Words("height / width", "wider than 1 : {}", "taller than 1 : {}"),
    "fps": _Words("frames a second", "fewer than {} frames a second", "more than {} frames a second"),
    "motion_score": _Words("motion", "motion below {}", "motion above {}"),
    "text_area": _Words("text", "text on less than {}", "text on more than {} of the picture", " %", 100),
    "aesthetic_score": _Words("beauty", "beauty below {}", "beauty above {}"),
    "technical_quality": _Words("quality", "technical quality below {}", "technical quality above {}"),
    "text_match": _Words("caption match", "caption fits less than {}", "caption fits more than {}"),
    "brightness": _Words("brightness", "darker than {}", "brighter than {}"),
    "black_frames": _Words("black", "less than {} black frames", "more than {} black frames", " %", 100),
    "frozen_frames": _Words("frozen", "less than {} frozen frames", "more than {} frozen frames", " %", 100),
}


def in_words(check: Check) -> str:
    """What a filter drops: "shorter than 1 s". One that cuts at a fraction names it."""
    words = _WORDS.get(check.score)
    if words is None:
        return check.reason.replace("_", " ")
    if check.threshold is None or " in the " in check.reason:
        return words.name + check.reason.removeprefix(check.score)
    return (words.below if check.below else words.above).format(_value(words, check.threshold))


def score_in_words(score: str, value: float) -> str:
    """A clip's score with its name and unit: "length 0.48 s"."""
    words = _WORDS.get(score)
    return f"{words.name} {_value(words, value)}" if words else f"{score.replace('_', ' ')} {number(value)}"


def _value(words: _Words, value: float) -> str:
    return number(words.scale * value) + words.unit
