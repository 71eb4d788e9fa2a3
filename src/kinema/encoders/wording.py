"""Other words for the same things: phrases that become the words that an encoder was taught."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def words(text: str) -> list[str]:
    """Lower-case words and numbers of a text, in order."""
    return _WORD.findall(text.lower())


def reword(spoken: Sequence[str], phrases: Mapping[str, str]) -> list[str]:
    """Words with every phrase of `phrases` in place of its value, from left to right, the longest first.

    A value may be empty: the phrase is left out. What was put in is not looked at again.
    """
    known = {tuple(words(phrase)): words(value) for phrase, value in phrases.items()}
    longest = max(map(len, known), default=0)
    told, place = list[str](), 0
    while place < len(spoken):
        spans = (tuple(spoken[place : place + length]) for length in range(longest, 0, -1))
        found = next((span for span in spans if span in known), None)
        told += [spoken[place]] if found is None else known[found]
        place += 1 if found is None else len(found)
    return told
