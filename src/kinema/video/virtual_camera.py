"""A camera that moves over frames which were made larger than they are shown."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.motion import CameraMove
from kinema.shapes import Size

Frame = UInt8[np.ndarray, "h w 3"]

_CANVAS = 1.5
"""Sides of what is made, in sides of what is shown."""
_TRAVEL = 0.3
"""How far a pan or tilt goes in a video, in sides of what is shown."""
_ZOOM = 1.45
"""How much larger or smaller things become by a zoom."""
_WAYS: dict[CameraMove, tuple[int, int]] = {
    "pan_left": (-1, 0),
    "pan_right": (1, 0),
    "tilt_up": (0, -1),
    "tilt_down": (0, 1),
}
"""Right and down."""


def canvas(shown: Size, factor: int) -> Size:
    """What must be made for a camera to move over; its sides are multiples of `factor`."""
    height, width = (math.ceil(_CANVAS * side / factor) * factor for side in (shown.height, shown.width))
    return Size(height, width)


def through_camera(frames: Iterator[Frame], move: CameraMove, shown: Size, total: int) -> Iterator[Frame]:
    """What a camera sees of `total` frames, at one speed from the first to the last.

    A pan goes as far to one side of the middle as to the other; a zoom in ends, and one out begins, with
    every pixel as it was made.
    """
    for index, frame in enumerate(frames):
        yield _view(frame, move, shown, index / max(1, total - 1))


def _view(frame: Frame, move: CameraMove, shown: Size, share: float) -> Frame:
    """What is seen after `share` of the way, between 0 and 1."""
    across, down = _WAYS.get(move, (0, 0))
    wide = {"zoom_in": 1 - share, "zoom_out": share}.get(move, 0.0)
    scale = _ZOOM**wide
    x = frame.shape[1] / 2 + across * _TRAVEL * shown.width * (share - 0.5)
    y = frame.shape[0] / 2 + down * _TRAVEL * shown.height * (share - 0.5)
    # Drawn at twice the size and averaged, so that what becomes smaller does not flicker. A pixel's centre is
    # at a whole number in OpenCV, at a half here.
    step = scale / 2
    left, top = x - scale * shown.width / 2, y - scale * shown.height / 2
    matrix = np.array([[step, 0, left + step / 2 - 0.5], [0, step, top + step / 2 - 0.5]])
    drawn = cv2.warpAffine(
        frame,
        matrix,
        (2 * shown.width, 2 * shown.height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    seen: Frame = cv2.resize(drawn, (shown.width, shown.height), interpolation=cv2.INTER_AREA)
    return seen
