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

ROWS_PER_OUTPUT, _ROWS_FOR_CUTS = 4, 2
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
    plane: av.video.plane.VideoPlane,
    bits: int,
    width: int,
    height: int,
    rows_read: int | None = ROWS_PER_OUTPUT,
) -> NDArray[np.uint8]:
    """One plane of a planar frame, averaged to a size; `rows_read` for each row of the result, or all."""
    dtype: np.dtype[Any] = np.dtype(np.uint8 if bits == 8 else np.uint16)
    rows = np.frombuffer(memoryview(plane), dtype).reshape(-1, plane.line_size // dtype.itemsize)
    if rows_read is None:
        small = scaled(rows[: plane.height, : plane.width], width, height)
    else:
        step = max(plane.height // (rows_read * height), 1)
        small = averaged(rows[: plane.height : step, : plane.width], width, height)
    return np.asarray(small >> (bits - 8) if bits > 8 else small, np.uint8)


def scaled(plane: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """To half the size or less: halved while no row or column is lost by it, then by the area of each pixel,
    or, by less than two, by two linear samples, which cover it in a sixth of the time.
    """
    rows, columns = plane.shape
    while rows >= 2 * height and columns >= 2 * width and not (rows % 2 or columns % 2):
        rows, columns = rows // 2, columns // 2
        plane = _resized(plane, columns, rows)
    near = rows < 2 * height and columns < 2 * width
    return _resized(plane, width, height, cv2.INTER_LINEAR if near else cv2.INTER_AREA)


def averaged(plane: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Area average, quickly: halved as often as it goes, where the last of an odd number of rows is lost."""
    rows, columns = plane.shape
    while rows >= 2 * height and columns >= 2 * width:
        rows, columns = rows // 2, columns // 2
        plane = _resized(plane[: 2 * rows, : 2 * columns], columns, rows)
    return _resized(plane, width, height)


def _resized(plane: NDArray[Any], width: int, height: int, how: int = cv2.INTER_AREA) -> NDArray[Any]:
    if plane.shape == (height, width):
        return plane
    return np.asarray(cv2.resize(plane, (width, height), interpolation=how))
