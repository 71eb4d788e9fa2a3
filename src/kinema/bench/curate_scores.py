"""Camera motion on generated moves, and overlay text on photographs with and without subtitles."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.bench.camera_moves import MOVES, camera_move
from kinema.bench.figures import Figure
from kinema.curate.camera import CameraConfig, camera_motion
from kinema.curate.overlay_text import TextConfig, text_area

SPEEDS = (0.02, 0.06, 0.2, 0.5)
"""Of generated moves, widths a second."""

SUBTITLES = (
    "And then the rain began.",
    "Where are you going?",
    "OK",
    "I never said that she stole it",
    "Das ist ein Untertitel",
)
CAMERA_TARGET, FALSE_TEXT = 0.95, 0.01
PRINTED = frozenset({"Portrait_0.jpg", "Portrait_6.jpg"})
"""Photographs of the set that show printed words."""

_LEAST_SIDE = 400


def camera_figure(photos: Path, count: int | None = None) -> Figure:
    """Share of generated camera moves that get their own label."""
    right, asked = 0, 0
    for number, (_, photo) in enumerate(_photographs(photos, _LEAST_SIDE, count)):
        for move in MOVES:
            for speed in SPEEDS[number % 2 :: 2]:
                frames, times = camera_move(photo, move, speed, seed=number)
                grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])
                right += camera_motion(grey, times, CameraConfig()).motion == move
                asked += 1
    return Figure(
        name="camera motion accuracy",
        value=right / max(asked, 1),
        unit="",
        target=CAMERA_TARGET,
        bounds="value",
    )


def text_figures(photos: Path, count: int | None = None) -> list[Figure]:
    """False text on clean photographs, and the share of burned-in subtitles that is found."""
    config = TextConfig(detect="auto")
    if not config.active:
        return []
    false, found, asked = [0.0], 0, 0
    for number, (name, photo) in enumerate(_photographs(photos, 200, count)):
        if name not in PRINTED:
            false.append(text_area(_grey(photo), config))
        for size, scale in enumerate((0.7, 1.0)):
            subtitled = burned_in(photo, SUBTITLES[(number + size) % len(SUBTITLES)], scale)
            found += text_area(_grey(subtitled), config) > 0.001
            asked += 1
    return [
        Figure(
            name="largest false text area",
            value=max(false),
            unit="of the picture",
            target=FALSE_TEXT,
            bounds="value",
            better="lower",
        ),
        Figure(name="subtitles found", value=found / max(asked, 1), unit="", target=1.0, bounds="value"),
    ]


def burned_in(photo: UInt8[np.ndarray, "h w 3"], words: str, scale: float) -> UInt8[np.ndarray, "h2 w2 3"]:
    """White with a dark outline at the foot of the picture, which is made 640 pixels wide."""
    height = round(photo.shape[0] * 640 / photo.shape[1])
    picture = cv2.resize(photo, (640, height), interpolation=cv2.INTER_AREA)
    (width, _), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    place = ((640 - width) // 2, height - 20)
    for shade, thickness in ((0, 5), (255, 2)):
        colour = (shade, shade, shade)
        cv2.putText(picture, words, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thickness, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)


def _grey(photo: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h2 w2 1"]:
    width = min(640, photo.shape[1])
    height = round(photo.shape[0] * width / photo.shape[1])
    small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)[..., None]


def _photographs(
    folder: Path, least_side: int, count: int | None
) -> Iterator[tuple[str, UInt8[np.ndarray, "h w 3"]]]:
    given = 0
    for path in sorted(folder.iterdir()):
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None or min(photo.shape[:2]) < least_side:
            continue
        if count is not None and given >= count:
            return
        given += 1
        yield path.name, np.asarray(photo, np.uint8)
