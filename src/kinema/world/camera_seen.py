"""What the camera does, from how the background moves."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.world.looking import bright_pixels
from kinema.world.scene import FPS, Camera

_PAN_PER_S, _ZOOM_PER_S = 0.05, 0.06
"""Least speeds that are told from standing still: sides and log scale per second."""


def seen_camera(frames: UInt8[np.ndarray, "t h w 3"]) -> Camera:
    """Static also where the background shows nothing that could be seen to move."""
    pairs = [_between(first, second) for first, second in pairwise(frames)]
    found = np.array([pair for pair in pairs if pair is not None])
    if len(found) < max(1, (len(frames) - 1) // 3):
        return Camera.STATIC
    side = min(frames.shape[1:3])
    right, down, growth = (np.median(found, axis=0) * FPS / np.array([side, side, 1.0])).tolist()
    if abs(growth) > _ZOOM_PER_S and abs(growth) > 0.6 * max(abs(right), abs(down)):
        return Camera.ZOOM_IN if growth > 0 else Camera.ZOOM_OUT
    if max(abs(right), abs(down)) < _PAN_PER_S:
        return Camera.STATIC
    if abs(right) > abs(down):
        return Camera.PAN_LEFT if right > 0 else Camera.PAN_RIGHT
    return Camera.PAN_UP if down > 0 else Camera.PAN_DOWN


def _between(
    first: UInt8[np.ndarray, "h w 3"], second: UInt8[np.ndarray, "h w 3"]
) -> tuple[float, float, float] | None:
    """Shift right and down in pixels, and log scale; None without texture to follow."""
    grey, later = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    objects = cv2.dilate((bright_pixels(first) | bright_pixels(second)).astype(np.uint8), np.ones((7, 7)))
    points = cv2.goodFeaturesToTrack(grey, 80, 0.05, 4, mask=1 - objects, blockSize=5)
    if points is None or len(points) < 6:
        return None
    guess = points.copy()
    moved, status, _ = cv2.calcOpticalFlowPyrLK(grey, later, points, guess, winSize=(11, 11), maxLevel=1)
    good = status[:, 0].astype(bool)
    return _similarity(points[good, 0], moved[good, 0], first.shape) if good.sum() >= 6 else None


def _similarity(
    points: Float[np.ndarray, "n 2"], moved: Float[np.ndarray, "n 2"], shape: tuple[int, ...]
) -> tuple[float, float, float] | None:
    matrix, _ = cv2.estimateAffinePartial2D(points, moved, method=cv2.RANSAC, ransacReprojThreshold=0.7)
    if matrix is None:
        return None
    middle = np.array([shape[1] / 2, shape[0] / 2])
    shift = matrix[:, :2] @ middle + matrix[:, 2] - middle
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    return float(shift[0]), float(shift[1]), float(np.log(max(scale, 1e-3)))
