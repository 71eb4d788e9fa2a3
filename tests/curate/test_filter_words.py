from __future__ import annotations

import numpy as np
import pytest

from kinema.curate.filter_words import in_words, score_in_words
from kinema.curate.filters import SCORES, Bounds, FilterConfig, Scores, checks


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"duration_s": Bounds(min=1)}, "shorter than 1 s"),
        ({"duration_s": Bounds(max=20)}, "longer than 20 s"),
        ({"text_area": Bounds(max=0.07)}, "text on more than 7 % of the picture"),
        ({"black_frames": Bounds(max=0.5)}, "more than 50 % black frames"),
        ({"motion_score": Bounds(drop_lowest=0.25)}, "motion in the lowest 25 %"),
        ({"brightness": Bounds(drop_highest=0.125)}, "brightness in the highest 12.5 %"),
        ({"camera_motion": ("pan_left",)}, "camera motion is pan left"),
        ({"near_duplicates": True}, "near duplicate"),
    ],
)
def test_a_filter_says_what_it_drops(config: dict, words: str) -> None:
    none = {name: Bounds() for name in SCORES}
    filters = FilterConfig(**({**none, "near_duplicates": False} | config))
    values = {name: np.array([0.1, 0.2, 0.3, 0.4]) for name in SCORES}
    [check] = checks(Scores(values, [None] * 4, np.zeros(4, bool)), filters)
    assert in_words(check) == words


def test_every_score_has_words_with_its_unit() -> None:
    assert score_in_words("duration_s", 0.4833) == "length 0.483 s"
    assert score_in_words("text_area", 0.155) == "text 15.5 %"
    assert not [name for name in SCORES if "_" in score_in_words(name, 0.5)]
