from __future__ import annotations

import numpy as np
import pytest

from kinema.config import load_config
from kinema.curate.filter_words import in_words, score_in_words
from kinema.curate.filters import SCORES, Bounds, FilterConfig, Scores, checks


@pytest.mark.parametrize(
    ("config", "words", "setting"),
    [
        ({"duration_s": Bounds(min=1)}, "shorter than 1 s", "duration_s.min=1"),
        ({"duration_s": Bounds(max=20)}, "longer than 20 s", "duration_s.max=20"),
        ({"text_area": Bounds(max=0.07)}, "text on more than 7 % of the picture", "text_area.max=0.07"),
        ({"black_frames": Bounds(max=0.5)}, "more than 50 % black frames", "black_frames.max=0.5"),
        (
            {"motion_score": Bounds(drop_lowest=0.25)},
            "motion in the lowest 25 %",
            "motion_score.drop_lowest=0.25",
        ),
        (
            {"brightness": Bounds(drop_highest=0.125)},
            "brightness in the highest 12.5 %",
            "brightness.drop_highest=0.125",
        ),
        ({"camera_motion": ("pan_left",)}, "camera motion is pan left", 'camera_motion=["pan_left"]'),
        ({"near_duplicates": True}, "near duplicate", "near_duplicates=true"),
    ],
)
def test_a_filter_says_what_it_drops_and_what_sets_it(config: dict, words: str, setting: str) -> None:
    none = {name: Bounds() for name in SCORES}
    filters = FilterConfig(**({**none, "near_duplicates": False} | config))
    values = {name: np.array([0.1, 0.2, 0.3, 0.4]) for name in SCORES}
    scores = Scores(values, [None] * 4, np.zeros(4, bool))
    [check] = checks(scores, filters)
    assert (in_words(check), check.setting) == (words, setting)
    given_back = checks(scores, load_config(FilterConfig, None, [setting]))
    assert check.reason in {one.reason for one in given_back}


def test_every_score_has_words_with_its_unit() -> None:
    assert score_in_words("duration_s", 0.4833) == "length 0.483 s"
    assert score_in_words("text_area", 0.155) == "text 15.5 %"
    assert not [name for name in SCORES if "_" in score_in_words(name, 0.5)]
