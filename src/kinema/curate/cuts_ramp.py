"""The model behind fades and dissolves: a mix of two pictures whose weight climbs along a straight ramp."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from kinema.video.flow import drawn_along

Tiny = Float[np.ndarray, "n d"]

LEAST_FRAMES = 3
"""A ramp of fewer steps is a hard cut."""

_TINY_AREA = 220
_DOUBTFUL_UNMIXED, _DOUBTFUL_BEND, _DOUBTFUL_OUTSIDE = 0.45, 0.25, 0.30
_FIT_POINTS = 40
_ROUNDING = 0.5


def tiny(frame: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, " d"]:
    """About 20 x 11 colours: small motion inside a shot hardly changes them."""
    height, width = frame.shape[:2]
    scale = min((_TINY_AREA / (height * width)) ** 0.5, 1.0)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.float32).ravel()


def is_flat(frame: Float[np.ndarray, " d"], limit: float) -> bool:
    """One colour all over, such as the black inside a fade."""
    _, spread = cv2.meanStdDev(frame.reshape(-1, 1, 3))
    return bool(spread.mean() <= limit)


def doubt(frames: Tiny, start: int, end: int) -> float:
    """Faults of a fitted ramp, each over the value that is doubtful by itself; 0 for a perfect mix.

    The share of the change that no mix explains, the bend of the weights away from the ramp, and how far
    the weights leave 0 before it and 1 after it.
    """
    weights, unmixed = mixing(frames, frames[start], frames[end])
    inside = weights[start : end + 1]
    bend = np.abs(inside - np.linspace(0, 1, len(inside))).max()
    reach = max(LEAST_FRAMES, (end - start) // 3)
    outside = max(
        _mean(np.abs(weights[max(start - reach, 0) : start])),
        _mean(np.abs(weights[end + 1 : end + 1 + reach] - 1)),
    )
    faults = np.median(unmixed[start + 1 : end]) / _DOUBTFUL_UNMIXED + bend / _DOUBTFUL_BEND
    return float(faults + outside / _DOUBTFUL_OUTSIDE)


def mixing(
    frames: Tiny, old: Float[np.ndarray, " d"], new: Float[np.ndarray, " d"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Per frame: the weight of `new` in the nearest mix, and the share of the change no mix explains."""
    change = new - old
    energy = float(change @ change) + 1e-6
    offset = frames - old
    weights = offset @ change / energy
    rest = offset - weights[:, None] * change
    return weights, np.sqrt(np.einsum("nd,nd->n", rest, rest) / energy)


def shifted_likeness(old: UInt8[np.ndarray, "h w 3"], new: UInt8[np.ndarray, "h w 3"]) -> float:
    """Best correlation of the middle of `old` with any place in `new`: near 1 when the camera moved."""
    grey = [cv2.cvtColor(_halved(view), cv2.COLOR_RGB2GRAY) for view in (old, new)]
    height, width = grey[0].shape
    part = grey[0][height // 5 : height - height // 5, width // 5 : width - width // 5]
    found = cv2.matchTemplate(grey[1], part, cv2.TM_CCOEFF_NORMED)
    return float(np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0).max())


def _halved(view: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = view.shape[:2]
    size = (max(width // 2, 1), max(height // 2, 1))
    return np.asarray(cv2.resize(view, size, interpolation=cv2.INTER_AREA), np.uint8)


def unmoved_change(views: Sequence[UInt8[np.ndarray, "h w 3"]]) -> float:
    """Share of the change from view to view that is left when the flow between them is taken out.

    Near 0 when camera or objects move, near 1 when one picture gives way to another. Median over pairs.
    """
    grey = [cv2.cvtColor(view, cv2.COLOR_RGB2GRAY) for view in views]
    return float(np.median([_left_by_flow(old, new) for old, new in pairwise(grey)]))


def _left_by_flow(old: UInt8[np.ndarray, "h w"], new: UInt8[np.ndarray, "h w"]) -> float:
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    warped = drawn_along(old, np.asarray(dense.calc(new, old, np.zeros((*old.shape, 2), np.float32))))
    return float(cv2.absdiff(new, warped).mean() / (cv2.absdiff(new, old).mean() + _ROUNDING))


def out_of_step(views: Sequence[UInt8[np.ndarray, "h w 3"]]) -> float:
    """How far parts of the picture change before or after the others; the views span a ramp, ends included.

    Distance of the weights of a part from the straight ramp, which three of four parts do not exceed; 4 x 3
    parts, those that hardly change left out. Near 0 for a mix, which turns everywhere at once; large when
    something crosses the picture.
    """
    small = np.stack([_in_parts(view) for view in views])
    change, offset = small[-1] - small[0], small - small[0]
    energy = (change**2).sum(axis=-1)
    weights = (offset * change).sum(axis=-1) / (energy + 1e-6)
    apart = np.abs(weights - np.linspace(0, 1, len(small))[:, None]).mean(axis=0)
    return float(np.quantile(apart[energy >= 0.25 * energy.mean()], 0.75, method="lower"))


def _in_parts(view: UInt8[np.ndarray, "h w 3"]) -> Float[np.ndarray, "12 48"]:
    """Twelve parts of 4 x 4 colours."""
    small = cv2.resize(view, (16, 12), interpolation=cv2.INTER_AREA).astype(np.float32)
    return small.reshape(3, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4).reshape(12, 48)


def fit_ramp(frames: Tiny) -> tuple[int, int]:
    """Positions of the last old and the first new frame, fitted once more between the ends first found."""
    start, end = 0, len(frames) - 1
    for _ in range(2):
        weights, _ = mixing(frames, frames[start], frames[end])
        start, end = straight_ramp(weights)
    return start, end


def straight_ramp(weights: Float[np.ndarray, " n"]) -> tuple[int, int]:
    """Ends (start, end) of the clamped straight ramp from 0 to 1 that is nearest to the weights."""
    step = max(len(weights) // _FIT_POINTS, 1)
    seen = np.clip(weights[::step], -0.3, 1.3)
    start, end, model = _ramps(len(seen))
    best = int(np.abs(model - seen).sum(axis=1).argmin())
    return int(start[best]) * step, int(end[best]) * step


@cache
def _ramps(points: int) -> tuple[Int[np.ndarray, " r"], Int[np.ndarray, " r"], Float[np.ndarray, "r n"]]:
    """All clamped straight ramps over so many points."""
    at = np.arange(points)
    start, end = (index.ravel() for index in np.meshgrid(at, at, indexing="ij"))
    rising = end > start
    start, end = start[rising], end[rising]
    model = np.clip((at - start[:, None]) / (end - start)[:, None], 0, 1).astype(np.float32)
    return start, end, model


def likeness(old: Float[np.ndarray, " d"], new: Float[np.ndarray, " d"]) -> float:
    """Correlation of two frames; 0 when one is flat."""
    old, new = old - old.mean(), new - new.mean()
    return float(old @ new / (np.linalg.norm(old) * np.linalg.norm(new) + 1e-6))


def _mean(values: Float[np.ndarray, " n"]) -> float:
    return float(values.mean()) if len(values) > 1 else 0.0
