"""Where text may be: the parts of a frame that a detector is shown, put side by side in a smaller picture.

A detector's cost is that of the pixels it sees. Text is dense thin strokes that stand out on both sides:
opening or closing the picture removes them, and leaves edges as they are. Frames are looked at in cells of 8
pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

CELL = 8
_STROKE_STEP, _STROKE_SIDE = 60, 7
_STROKE_SHARE, _LEAST_CELLS = 0.2, 2
_MARGIN_ROWS, _MARGIN_COLUMNS = 3, 4
_GAP = 16
_CHANGED_LEVELS = 6.0
"""A stroke that came or went changes a fifth of the pixels by half of `_STROKE_STEP` and more."""

_GROUND = 127


class Region(NamedTuple):
    """Half-open, in pixels."""

    left: int
    top: int
    right: int
    bottom: int

    def meets(self, other: Region) -> bool:
        """Whether both have pixels in common."""
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def joined(self, other: Region) -> Region:
        """The smallest one around both."""
        low = (min(a, b) for a, b in zip(self[:2], other[:2], strict=True))
        return Region(*low, *(max(a, b) for a, b in zip(self[2:], other[2:], strict=True)))


@dataclass(frozen=True)
class Sheet:
    """Regions of a frame side by side; a point of `pixels` at `places[i]` is the corner of `regions[i]`."""

    pixels: UInt8[np.ndarray, "h w"]
    regions: Sequence[Region]
    places: Sequence[tuple[int, int]]

    def in_frame(self, box: Float[np.ndarray, "4 2"]) -> Float[np.ndarray, "4 2"]:
        """A box (corners x, y) on the sheet, as it lies in the frame."""
        x, y = box.mean(axis=0)
        for (left, top, right, bottom), (at_x, at_y) in zip(self.regions, self.places, strict=True):
            if at_x <= x < at_x + right - left + _GAP and at_y <= y < at_y + bottom - top + _GAP:
                return np.asarray(box + np.array([left - at_x, top - at_y], box.dtype))
        return box


def stroke_cells(grey: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "rows columns"]:
    """Cells dense with thin strokes."""
    side = np.ones((_STROKE_SIDE, _STROKE_SIDE), np.uint8)
    bright = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, side) > _STROKE_STEP
    strokes = bright | (cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, side) > _STROKE_STEP)
    return np.asarray(cv2.blur(_in_cells(strokes), (4, 2)) > _STROKE_SHARE, np.bool_)


def changed_cells(
    before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"]
) -> Bool[np.ndarray, "rows columns"]:
    """Cells in which text may have come or gone between two frames."""
    levels = cv2.blur(_in_cells(cv2.absdiff(before, after)), (4, 2))
    return np.asarray(levels > _CHANGED_LEVELS, np.bool_)


def text_regions(cells: Bool[np.ndarray, "rows columns"], shape: tuple[int, int]) -> list[Region]:
    """Rectangles with a margin around cells that belong together, none of which overlap.

    `shape`: (height, width) of the frame. Cells without a neighbour in their row are left out.
    """
    around = np.ones((2 * _MARGIN_ROWS + 1, 2 * _MARGIN_COLUMNS + 1), np.uint8)
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(cells.astype(np.uint8), around))
    found: list[Region] = []
    for label in range(1, count):
        left, top, width, height = (int(side) for side in boxes[label][:4])
        window = slice(top, top + height), slice(left, left + width)
        if (cells[window] & (labels[window] == label)).sum(axis=1).max() >= _LEAST_CELLS:
            found.append(_in_pixels(left, top, left + width, top + height, shape))
    return _disjoint(found)


def sheet(grey: UInt8[np.ndarray, "h w"], regions: Sequence[Region]) -> Sheet:
    """Regions in rows from the highest on, each row at most as wide as the frame."""
    ordered = sorted(regions, key=lambda region: (region.top - region.bottom, region.top, region.left))
    places = _shelved(ordered, grey.shape[1])
    ends = [(x + r.right - r.left, y + r.bottom - r.top) for r, (x, y) in zip(ordered, places, strict=True)]
    width, height = (max((end[axis] for end in ends), default=0) for axis in (0, 1))
    pixels = np.full((height, width), _GROUND, np.uint8)
    for (left, top, right, bottom), (x, y) in zip(ordered, places, strict=True):
        pixels[y : y + bottom - top, x : x + right - left] = grey[top:bottom, left:right]
    return Sheet(pixels, ordered, places)


def _shelved(regions: Sequence[Region], width: int) -> list[tuple[int, int]]:
    """Places (x, y) of regions, the highest first: each goes on the first shelf that has room."""
    places: list[tuple[int, int]] = []
    shelves: list[tuple[int, int]] = []
    bottom = 0
    for left, top, right, low in regions:
        shelf = next((at for at, (used, _) in enumerate(shelves) if used + right - left <= width), None)
        if shelf is None:
            shelf = len(shelves)
            shelves.append((0, bottom))
            bottom += low - top + _GAP
        used, y = shelves[shelf]
        places.append((used, y))
        shelves[shelf] = used + right - left + _GAP, y
    return places


def _in_cells(values: np.ndarray) -> np.ndarray:
    height, width = values.shape
    cells = max(width // CELL, 1), max(height // CELL, 1)
    return cv2.resize(values.astype(np.float32), cells, interpolation=cv2.INTER_AREA)


def within(box: Float[np.ndarray, "4 2"], shape: tuple[int, int]) -> Bool[np.ndarray, "rows columns"]:
    """The cells of a frame of the given (height, width) that a box touches."""
    marked = cv2.fillPoly(np.zeros(shape, np.uint8), [box.astype(np.int32)], 1)
    return np.asarray(_in_cells(marked) > 0, np.bool_)


def _in_pixels(left: int, top: int, right: int, bottom: int, shape: tuple[int, int]) -> Region:
    (height, width), (rows, columns) = shape, (max(shape[0] // CELL, 1), max(shape[1] // CELL, 1))
    low, high = left * width // columns, top * height // rows
    return Region(low, high, -(-right * width // columns), -(-bottom * height // rows))


def _disjoint(regions: Sequence[Region]) -> list[Region]:
    """Those that overlap joined, until none do."""
    apart: list[Region] = []
    waiting = list(regions)
    while waiting:
        region = waiting.pop()
        met = next((other for other in apart if region.meets(other)), None)
        if met is None:
            apart.append(region)
        else:
            apart.remove(met)
            waiting.append(region.joined(met))
    return apart
