"""How much moves: mean length of Farneback optical flow at 2 frames a second on frames 160 px wide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curate.sampling import Sampling, Score


@dataclass(frozen=True, kw_only=True)
class MotionConfig:
    """`fps` and `width` set the score's scale: a threshold holds only for the values it was chosen with."""

    fps: float = 2.0
    width: int = 160

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.width < 32:
            raise ValueError(f"motion needs fps > 0 and width >= 32, got {self.fps} and {self.width}")


class MotionScorer:
    """Column `motion_score`: pixels per pair of frames, at the config's width and rate."""

    def __init__(self, config: MotionConfig) -> None:
        self.sampling = Sampling(fps=config.fps, width=config.width, grey=True)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w 1"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        return {"motion_score": motion_score(frames[..., 0]) if len(timestamps) > 1 else None}


def motion_score(frames: UInt8[np.ndarray, "t h w"]) -> float:
    """Mean flow length over pixels and consecutive pairs; needs two frames."""
    if len(frames) < 2:
        raise ValueError(f"motion needs at least two frames, got {len(frames)}")
    return float(np.mean([_pair(before, after) for before, after in pairwise(frames)]))


def _pair(before: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"]) -> float:
    flow = cv2.calcOpticalFlowFarneback(
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
    return float(np.linalg.norm(flow, axis=-1).mean())
