"""Which triangle is seen at each pixel: a depth buffer over all fragments at once, in numpy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

_FRAGMENTS = 2_000_000
"""At a time: bounds memory."""


def visible_faces(
    screen: Float[np.ndarray, "f 3 2"], nearness: Float[np.ndarray, "f 3"], height: int, width: int
) -> Int[np.ndarray, "h w"]:
    """The nearest triangle at each pixel's centre, -1 where there is none.

    `screen` is in pixels (right, down); `nearness` is 1 / depth, which is linear on the screen. Both sides of
    a triangle are seen. Of triangles at one depth the first is taken.
    """
    low, high = float(nearness.min()), float(nearness.max())
    step = (2**31 - 2) / max(high - low, 1e-12)
    empty = np.iinfo(np.int64).max
    buffer = np.full(height * width, empty, np.int64)
    weights, planes = _planes(screen, nearness)
    usable = np.isfinite(weights).all(axis=(1, 2))
    for faces, columns, rows in _fragments(screen, usable, height, width):
        point = np.stack([columns + 0.5, rows + 0.5, np.ones(len(columns))])
        inside = np.ones(len(faces), bool)
        for corner in range(3):
            inside &= (weights[faces, corner].T * point).sum(axis=0) >= -1e-9
        faces, point = faces[inside], point[:, inside]  # noqa: PLW2901 (what is left of them)
        at = (planes[faces].T * point).sum(axis=0)
        depth = ((high - at).clip(0, high - low) * step).astype(np.int64)
        np.minimum.at(buffer, rows[inside] * width + columns[inside], (depth << 32) | faces)
    return np.where(buffer == empty, -1, buffer & 0xFFFFFFFF).reshape(height, width)


def barycentric(
    screen: Float[np.ndarray, "n 3 2"], nearness: Float[np.ndarray, "n 3"], points: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 3"]:
    """Weights of a triangle's corners at a point, in space rather than on the screen."""
    weights, _ = _planes(screen, nearness)
    at = np.concatenate([points, np.ones((len(points), 1))], axis=1)
    flat = np.clip((weights * at[:, None]).sum(axis=2), 0, 1) * nearness
    return np.asarray(flat / flat.sum(axis=1, keepdims=True))


def _planes(
    screen: Float[np.ndarray, "f 3 2"], nearness: Float[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "f 3 3"], Float[np.ndarray, "f 3"]]:
    """Coefficients (x, y, 1) of each corner's weight on the screen, and of the nearness."""
    x, y = screen[..., 0], screen[..., 1]
    after, before = [1, 2, 0], [2, 0, 1]
    right, down = y[:, after] - y[:, before], x[:, before] - x[:, after]
    constant = x[:, after] * y[:, before] - x[:, before] * y[:, after]
    area = constant.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):  # a triangle seen from its edge is not seen
        weights = np.stack([right, down, constant], axis=2) / area[:, None, None]
        return weights, (weights * nearness[:, :, None]).sum(axis=1)


def _fragments(
    screen: Float[np.ndarray, "f 3 2"], usable: np.ndarray, height: int, width: int
) -> Iterator[tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]]:
    """Triangle, column and row of every pixel in the triangles' boxes, some triangles at a time."""
    size = np.array([width, height])
    first = np.clip(np.ceil(screen.min(axis=1) - 0.5), 0, size).astype(np.int64)
    last = np.clip(np.floor(screen.max(axis=1) - 0.5) + 1, 0, size).astype(np.int64)
    across, down = np.where(usable[:, None], np.maximum(last - first, 0), 0).T
    counts = across * down
    chosen = np.flatnonzero(counts)
    groups = np.cumsum(counts[chosen]) // _FRAGMENTS
    for group in np.unique(groups):
        faces = chosen[groups == group]
        number = np.repeat(np.arange(len(faces)), counts[faces])
        begin = np.cumsum(counts[faces]) - counts[faces]
        place = np.arange(len(number)) - begin[number]
        of = faces[number]
        yield of, first[of, 0] + place % across[of], first[of, 1] + place // across[of]
