"""A caption that needs no model: it states what was measured, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

from kinema.manifest import Clip

MODEL = "kinema"

CAMERA_WORDS = {
    "static": "static camera",
    "pan_left": "camera pans left",
    "pan_right": "camera pans right",
    "tilt_up": "camera tilts up",
    "tilt_down": "camera tilts down",
    "zoom_in": "camera zooms in",
    "zoom_out": "camera zooms out",
    "roll": "camera rolls",
    "handheld": "handheld camera",
    "mixed": "camera moves",
}
_DIRECTIONS = {"left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards"}
_HOLDS_STILL = {"static", "handheld", None}
_SPEEDS = ((0.05, "no motion"), (0.5, "slow motion"), (2.5, "motion"), (float("inf"), "fast motion"))
_DARK, _BRIGHT = 0.25, 0.75
_TEXT_AREA = 0.02


def measured_caption(clip: Clip) -> str:
    """Such as "static camera; slow motion to the left; dark; 4 s". What was not measured is not said."""
    return "; ".join(_facts(clip))


def _facts(clip: Clip) -> Iterator[str]:
    if clip.camera_motion in CAMERA_WORDS:
        yield CAMERA_WORDS[clip.camera_motion]
    # When the camera moves, the flow is the camera's, not the subject's.
    if clip.motion_score is not None and clip.camera_motion in _HOLDS_STILL:
        yield _motion(clip.motion_score, clip.motion_direction)
    if clip.brightness is not None and not _DARK <= clip.brightness <= _BRIGHT:
        yield "dark" if clip.brightness < _DARK else "bright"
    if clip.text_area is not None and clip.text_area >= _TEXT_AREA:
        yield "text in the picture"
    yield f"{clip.duration_s:.2g} s" if clip.duration_s else "still picture"


def _motion(score: float, direction: str | None) -> str:
    speed = next(name for limit, name in _SPEEDS if score < limit)
    if direction is None or score < _SPEEDS[0][0]:
        return speed
    return f"{speed} {_DIRECTIONS[direction]}"
