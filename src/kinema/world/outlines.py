"""Which shape a blob has: compared with what the renderer would draw, turned in small steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from jaxtyping import Float

from kinema.world.render import corners, hole
from kinema.world.scene import Shape

GRID = 48
"""Pixels along a side of the normalised picture of a blob."""
_SPREAD = 0.36
"""The root mean square distance from the centroid there, in shares of the grid: the same for every shape."""
SYMMETRY = {Shape.SQUARE: 4, Shape.TRIANGLE: 3, Shape.STAR: 5}
"""Turns by a whole number of 360 / n degrees look the same; a circle and a ring never change."""
_STEPS = 12


@dataclass(frozen=True)
class Template:
    """A shape at one angle, normalised."""

    shape: Shape
    angle: float
    picture: Float[np.ndarray, "g g"]


@cache
def templates() -> tuple[Template, ...]:
    """Every shape at every angle that looks different."""
    found = []
    for shape in Shape:
        order = SYMMETRY.get(shape)
        for step in range(_STEPS if order else 1):
            angle = 2 * math.pi / (order or 1) * step / _STEPS
            found.append(Template(shape, angle, normalised(_drawn(shape, angle))))
    return tuple(found)


def normalised(cover: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "g g"]:
    """Shifted to its centroid and scaled to the same spread, so that only the outline is left."""
    x, y, spread = moments(cover)
    scale = _SPREAD * GRID / spread / 1.6
    middle = (GRID - 1) / 2
    matrix = np.array([[scale, 0, middle - scale * x], [0, scale, middle - scale * y]])
    return cv2.warpAffine(cover.astype(np.float32), matrix, (GRID, GRID), flags=cv2.INTER_LINEAR)


def moments(cover: Float[np.ndarray, "h w"]) -> tuple[float, float, float]:
    """Centroid x and y in pixels, and root mean square distance from it."""
    total = float(cover.sum())
    rows, columns = np.mgrid[: cover.shape[0], : cover.shape[1]]
    x, y = float((cover * columns).sum() / total), float((cover * rows).sum() / total)
    square = float((cover * ((columns - x) ** 2 + (rows - y) ** 2)).sum() / total)
    return x, y, max(math.sqrt(square), 1e-3)


def likeness(cover: Float[np.ndarray, "h w"]) -> Float[np.ndarray, " n"]:
    """Overlap over union with each template, in their order."""
    picture = normalised(cover)
    stack = _stack()
    both = np.minimum(stack, picture).sum((1, 2))
    either = np.maximum(stack, picture).sum((1, 2))
    overlap: Float[np.ndarray, " n"] = both / np.maximum(either, 1e-6)
    return overlap


@cache
def _stack() -> Float[np.ndarray, "n g g"]:
    return np.stack([template.picture for template in templates()])


def _drawn(shape: Shape, angle: float) -> Float[np.ndarray, "h w"]:
    """A large picture of the shape, then made as soft as 12 pixels of radius are."""
    side, radius = 192, 70.0
    picture = np.zeros((side, side), np.uint8)
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    points = np.round(corners(shape) @ turn * radius + side / 2).astype(np.int32)
    cv2.fillPoly(picture, [points], 255, cv2.LINE_AA)
    if inner := hole(shape):
        cv2.circle(picture, (side // 2, side // 2), round(inner * radius), 0, -1, cv2.LINE_AA)
    soft = cv2.GaussianBlur(picture.astype(np.float32) / 255, (0, 0), 70 / 12 * 0.5)
    return soft
