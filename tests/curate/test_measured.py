from __future__ import annotations

from dataclasses import replace

from kinema.curate.measured import measured_caption
from kinema.manifest import Clip

CLIP = Clip(
    clip_id="a",
    source_id="s",
    source_path="/x.mp4",
    start_frame=0,
    end_frame=100,
    start_s=0.0,
    end_s=4.0,
    cut_kind_start="start",
    cut_kind_end="end",
    frames=100,
    fps=25.0,
    width=320,
    height=180,
    aspect_ratio=180 / 320,
    duration_s=4.0,
)


def test_states_what_was_measured() -> None:
    clip = replace(CLIP, camera_motion="static", motion_score=0.3, motion_direction="left", brightness=0.1)
    assert measured_caption(clip) == "static camera; slow motion to the left; dark; 4 s"


def test_says_nothing_of_what_was_not() -> None:
    assert measured_caption(CLIP) == "4 s"
    assert measured_caption(replace(CLIP, frames=1, duration_s=0.0)) == "still picture"


def test_flow_of_a_moving_camera_is_not_the_subjects() -> None:
    clip = replace(CLIP, camera_motion="pan_left", motion_score=4.0, motion_direction="right")
    assert measured_caption(clip) == "camera pans left; 4 s"


def test_words_for_more_and_less() -> None:
    still = replace(CLIP, motion_score=0.01, motion_direction="up", brightness=0.9, text_area=0.1)
    assert measured_caption(still) == "no motion; bright; text in the picture; 4 s"
    assert measured_caption(replace(CLIP, motion_score=9.0)) == "fast motion; 4 s"
