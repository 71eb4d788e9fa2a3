"""Tiny colour frames straight from the decoded planes, for detectors that must keep up with the decoder.

A conversion by swscale reads every pixel three times; here every `step`-th row of each plane is averaged
horizontally. The colours are for comparing frames with one another, not for looking at: the colour matrix
and range of the source are ignored, and rotation is not applied.
"""

from __future__ import annotations

from typing import Any

import av
import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

SMALL_AREA = 80 * 45
"""Pixels of a small frame; its sides follow the source's aspect ratio."""

_ROWS_PER_OUTPUT = 4
_PLANAR_BITS = {
    f"{family}{layout}p{depth}": bits
    for family in ("yuv", "yuvj")
    for layout in ("420", "422", "444")
    for depth, bits in (("", 8), ("10le", 10), ("12le", 12))
}


def small_size(width: int, height: int, area: int = SMALL_AREA) -> tuple[int, int]:
    """(width, height) of about `area` pixels in the aspect ratio given; no side below 16."""
    scale = (area / (width * height)) ** 0.5
    return max(round(width * scale), 16), max(round(height * scale), 16)


def small_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """A frame of `size` (width, height; default `small_size`), as stored: rotation is not applied."""
    width, height = size or small_size(frame.width, frame.height)
    bits = _PLANAR_BITS.get(frame.format.name)
    if bits is None:
        return frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
    planes = [_small_plane(frame.planes[index], bits, width, height) for index in range(3)]
    return np.asarray(cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YUV2RGB))


def _small_plane(plane: av.video.plane.VideoPlane, bits: int, width: int, height: int) -> NDArray[np.uint8]:
    dtype: np.dtype[Any] = np.dtype(np.uint8 if bits == 8 else np.uint16)
    rows = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    step = max(plane.height // (_ROWS_PER_OUTPUT * height), 1)
    small: NDArray[Any] = cv2.resize(
        rows[: plane.height : step, : plane.width], (width, height), interpolation=cv2.INTER_AREA
    )
    return np.asarray(small >> (bits - 8) if bits > 8 else small, np.uint8)
