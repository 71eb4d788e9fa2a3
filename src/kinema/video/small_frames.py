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

_ROWS_PER_OUTPUT, _ROWS_FOR_CUTS = 4, 2
PLANAR_BITS = {
    f"{family}{layout}p{depth}": bits
    for family in ("yuv", "yuvj")
    for layout in ("420", "422", "444")
    for depth, bits in (("", 8), ("10le", 10), ("12le", 12))
}
"""Of each sample, by pixel format."""


def small_size(width: int, height: int, area: int = SMALL_AREA) -> tuple[int, int]:
    """(width, height) of about `area` pixels in the aspect ratio given; no side below 16."""
    scale = (area / (width * height)) ** 0.5
    return max(round(width * scale), 16), max(round(height * scale), 16)


def small_rgb(frame: av.VideoFrame, size: tuple[int, int] | None = None) -> UInt8[np.ndarray, "h w 3"]:
    """A frame of `size` (width, height; default `small_size`), as stored: rotation is not applied."""
    width, height = size or small_size(frame.width, frame.height)
    bits = PLANAR_BITS.get(frame.format.name)
    if bits is None:
        return frame.reformat(width, height, "rgb24", interpolation="AREA").to_ndarray()
    planes = [small_plane(frame.planes[index], bits, width, height, _ROWS_FOR_CUTS) for index in range(3)]
    return np.asarray(cv2.cvtColor(cv2.merge(planes), cv2.COLOR_YUV2RGB))


def small_plane(
    plane: av.video.plane.VideoPlane, bits: int, width: int, height: int, rows_read: int = _ROWS_PER_OUTPUT
) -> NDArray[np.uint8]:
    """One plane of a planar frame, averaged to a size; `rows_read` for each row of the result."""
    dtype: np.dtype[Any] = np.dtype(np.uint8 if bits == 8 else np.uint16)
    rows = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    step = max(plane.height // (rows_read * height), 1)
    small = averaged(rows[: plane.height : step, : plane.width], width, height)
    return np.asarray(small >> (bits - 8) if bits > 8 else small, np.uint8)


def averaged(plane: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Area average. Halving is several times faster than any other step, so it goes first."""
    rows, columns = plane.shape
    while rows >= 2 * height and columns >= 2 * width:
        rows, columns = rows // 2, columns // 2
        plane = cv2.resize(plane[: 2 * rows, : 2 * columns], (columns, rows), interpolation=cv2.INTER_AREA)
    return plane if (rows, columns) == (height, width) else _resized(plane, width, height)


def _resized(plane: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_AREA))
