"""How much moves: mean length of Farneback optical flow at 2 frames a second on frames 160 px wide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curate.sampling import Sampling, Score

_AGREEMENT = 0.5
"""Length of the mean flow over the mean length of the flow, from which on it has a direction."""


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """`fps` and `width` set the score's scale: a threshold holds only for the values it was chosen with."""

    fps: float = 2.0
    width: int = 160

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.width < 32:
            raise ValueError(f"motion needs fps > 0 and width >= 32, got {self.fps} and {self.width}")


class MotionScorer:
    """Columns `motion_score`, in pixels per pair of frames at the config's width and rate, and
    `motion_direction`."""

    def __init__(self, config: MotionConfig) -> None:
        self.sampling = Sampling(fps=config.fps, width=config.width, grey=True)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w 1"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if len(timestamps) < 2:
            return {"motion_score": None, "motion_direction": None}
        flows = [_flow(before, after) for before, after in pairwise(frames[..., 0])]
        return {"motion_score": _mean_length(flows), "motion_direction": motion_direction(flows)}


def motion_score(frames: UInt8[np.ndarray, "t h w"]) -> float:
    """Mean flow length over pixels and consecutive pairs; needs two frames."""
    if len(frames) < 2:
        raise ValueError(f"motion needs at least two frames, got {len(frames)}")
    return _mean_length([_flow(before, after) for before, after in pairwise(frames)])


def motion_direction(flows: Sequence[Float[np.ndarray, "h w 2"]]) -> str | None:
    """left, right, up or down, where most of the flow goes that way; None where it goes all ways."""
    x, y = np.mean([flow.mean(axis=(0, 1)) for flow in flows], axis=0)
    along, across = max(abs(x), abs(y)), min(abs(x), abs(y))
    if along < _AGREEMENT * _mean_length(flows) or along < 2 * across:
        return None
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "up" if y < 0 else "down"


def _mean_length(flows: Sequence[Float[np.ndarray, "h w 2"]]) -> float:
    return float(np.mean([np.linalg.norm(flow, axis=-1).mean() for flow in flows]))


def _flow(before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 2"]:
    return cv2.calcOpticalFlowFarneback(
        before,
        after,
        np.empty((*before.shape, 2), np.float32),
        pyr_scale=0.5,
        levels=3,
        winsize=15,
        iterations=3,
        poly_n=5,
        poly_sigma=1.2,
        flags=0,
    )
