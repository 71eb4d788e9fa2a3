"""How much moves in a clip, on the scale 0 to 255 that video networks are told: a share of the dataset."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

CameraMove = Literal["static", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out"]
"""What a camera can be told to do; curation calls it the same (kinema.curate.camera)."""

MOST_MOTION = 255.0
NEUTRAL_MOTION = 127.0
"""What a network is told where nobody says."""

_KNOTS = 17


@dataclass(frozen=True, kw_only=True)
class MotionMap:
    """Motion scores at equally spaced quantiles of the clips that a model was trained on.

    The score at quantile q is told as 255 q: 0 is as still as the stillest clip, 127 the median, 255 the
    most motion that there was. A clip without a score is told the middle.
    """

    scores: tuple[float, ...]

    def __post_init__(self) -> None:
        rising = all(low <= high for low, high in zip(self.scores, self.scores[1:], strict=False))
        if len(self.scores) < 2 or not rising:
            raise ValueError(f"scores must be two or more rising numbers, got {self.scores}")

    @classmethod
    def of(cls, scores: Iterable[float]) -> MotionMap | None:
        """Of a dataset's scores; None where there are none."""
        values = np.array(list(scores), dtype=np.float64)
        if not len(values):
            return None
        knots = np.quantile(values, np.linspace(0, 1, _KNOTS))
        return cls(scores=tuple(float(knot) for knot in knots))

    def told(self, scores: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """0 to 255 for each score; the middle of a stretch of equal scores; NaN is 127."""
        values, knots = scores.double().cpu().numpy(), np.array(self.scores)
        places = np.linspace(0, MOST_MOTION, len(knots))
        low = np.interp(values, knots, places)
        # From the other side, so that clips of one score are told the middle of their share.
        high = MOST_MOTION - np.interp(-values, -knots[::-1], places)
        told = np.where(np.isnan(values), NEUTRAL_MOTION, (low + high) / 2)
        return torch.from_numpy(told).to(scores)

    def score(self, told: float) -> float:
        """The motion score that 0 to 255 stands for."""
        places = np.linspace(0, MOST_MOTION, len(self.scores))
        return float(np.interp(told, places, self.scores))
