"""What the camera does in a clip: a robust global motion model on dense flow, a label and its confidence.

Per pair of frames a similarity (shift, scale, rotation about the frame's centre) is fitted to DIS flow by
iteratively reweighted least squares, so that what moves inside the picture counts little. Directions are
the camera's: `pan_right` means that the camera turns right and the picture's content moves left;
`tilt_up` that content moves down; `zoom_in` that it grows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from kinema.curate.sampling import Sampling, Score
from kinema.motion import CameraMove

CameraMotion = Literal[CameraMove, "roll", "handheld", "mixed"]


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """Speeds are fractions of the frame's width a second, felt at a typical point of the frame.

    `still`: slower than this is static; `steady`: least ratio of net to total motion (less is handheld);
    `dominant`: least share of one kind of motion in all of it (less is mixed).
    """

    fps: float = 8.0
    width: int = 160
    still: float = 0.005
    steady: float = 0.5
    dominant: float = 0.6

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.width < 64 or self.still <= 0:
            raise ValueError(f"camera needs fps > 0, width >= 64 and still > 0, got {self}")
        if not (0 < self.steady < 1 and 0 < self.dominant < 1):
            raise ValueError(f"steady and dominant must be in (0, 1), got {self.steady} and {self.dominant}")


@dataclass(frozen=True, kw_only=True)
class CameraLabel:
    """`speed`: fraction of the width a second; `confidence` in [0, 1]: share of the picture that follows the
    model, times how clearly the label's rule was met."""

    motion: CameraMotion
    confidence: float
    speed: float


class CameraScorer:
    """Columns `camera_motion` and `camera_confidence`."""

    def __init__(self, config: CameraConfig | None = None) -> None:
        self.config = config or CameraConfig()
        self.sampling = Sampling(fps=self.config.fps, width=self.config.width, grey=True)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w 1"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if len(timestamps) < 2:
            return {"camera_motion": None, "camera_confidence": None}
        label = camera_motion(frames[..., 0], timestamps, self.config)
        return {"camera_motion": label.motion, "camera_confidence": label.confidence}


def camera_motion(
    frames: UInt8[np.ndarray, "t h w"], timestamps: Float[np.ndarray, " t"], config: CameraConfig
) -> CameraLabel:
    """Needs at least two frames; `timestamps` in seconds, ascending."""
    if len(frames) < 2:
        raise ValueError(f"camera motion needs at least two frames, got {len(frames)}")
    height, width = frames.shape[1:]
    first = np.linspace(0, len(frames) - 2, min(len(frames) - 1, _PAIRS)).round().astype(int)
    flow, texture = _sampled_flow(frames, first)
    motion, follows = fit_similarity(flow, texture, _places(height, width))
    return _label(motion / width / np.diff(timestamps)[first, None], follows, config)


_GRID = 8
_ROUNDS = 6
_NOISE_PX = 0.25
_PAIRS = 24
"""At most so many pairs of a clip are measured, evenly spread: medians need no more."""


def fit_similarity(
    flow: Float[np.ndarray, "p n 2"], texture: Float[np.ndarray, "p n"], places: Float[np.ndarray, "n 2"]
) -> tuple[Float[np.ndarray, "p 4"], Float[np.ndarray, " p"]]:
    """Per pair (shift right, shift down, growth, rotation), each as pixels moved at a typical point, and the
    share of the texture that follows.

    With x, y over their root mean square radius: u = a + c x - d y, v = b + c y + d x, solved in closed
    form about the weighted centre, with Geman-McClure weights from wide to narrow.
    """
    radius = float(np.sqrt((places**2).sum(axis=1).mean()))
    at = places / radius
    weights = texture + 1e-6
    motion = _solved(flow, weights, at)
    follows = np.zeros(len(flow))
    for turn in range(_ROUNDS):
        error = np.linalg.norm(flow - _moved(motion, at), axis=2)
        spread = _weighted_medians(error, texture)
        limit = np.maximum(2.0 * spread * 0.75**turn, 0.1 * np.linalg.norm(motion, axis=1))
        limit = np.maximum(limit, _NOISE_PX)[:, None]
        weights = texture * (limit**2 / (limit**2 + error**2)) ** 2 + 1e-6
        motion = _solved(flow, weights, at)
        follows = (texture * (error < 1.5 * limit)).sum(axis=1) / (texture.sum(axis=1) + 1e-9)
    return motion, follows


def _sampled_flow(
    frames: UInt8[np.ndarray, "t h w"], first: Int[np.ndarray, " p"]
) -> tuple[Float[np.ndarray, "p n 2"], Float[np.ndarray, "p n"]]:
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    start = np.zeros((*frames.shape[1:], 2), np.float32)
    cells = slice(_GRID // 2, None, _GRID)
    flow = [dense.calc(frames[at], frames[at + 1], start.copy())[cells, cells] for at in first]
    texture = [_texture(frames[at])[cells, cells] for at in first]
    return np.stack(flow).reshape(len(flow), -1, 2).astype(np.float64), np.stack(texture).reshape(
        len(flow), -1
    )


def _places(height: int, width: int) -> Float[np.ndarray, "n 2"]:
    """Where the flow is sampled, in pixels from the frame's centre."""
    rows, columns = np.mgrid[_GRID // 2 : height : _GRID, _GRID // 2 : width : _GRID]
    return np.stack([columns.ravel() - (width - 1) / 2, rows.ravel() - (height - 1) / 2], axis=1)


def _texture(frame: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Trust in the flow, 0 to 1: it means nothing where the picture is flat."""
    across = cv2.Sobel(frame, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(frame, cv2.CV_32F, 0, 1, scale=0.125)
    energy = cv2.blur(across**2 + down**2, (7, 7))
    return np.asarray(energy / (energy + 4.0), np.float64)


def _solved(
    flow: Float[np.ndarray, "p n 2"], weights: Float[np.ndarray, "p n"], at: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "p 4"]:
    share = (weights / weights.sum(axis=1, keepdims=True))[:, :, None]
    centre, shift = (share * at).sum(axis=1), (share * flow).sum(axis=1)
    here, moved = at - centre[:, None], flow - shift[:, None]
    energy = (share * here**2).sum(axis=(1, 2)) + 1e-9
    growth = (share * here * moved).sum(axis=(1, 2)) / energy
    turned = here[..., 0] * moved[..., 1] - here[..., 1] * moved[..., 0]
    rotation = (share[..., 0] * turned).sum(axis=1) / energy
    right = shift[:, 0] - growth * centre[:, 0] + rotation * centre[:, 1]
    down = shift[:, 1] - growth * centre[:, 1] - rotation * centre[:, 0]
    return np.stack([right, down, growth, rotation], axis=1)


def _moved(motion: Float[np.ndarray, "p 4"], at: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "p n 2"]:
    """The model's flow."""
    growth, rotation = motion[:, 2:3], motion[:, 3:4]
    right = motion[:, 0:1] + growth * at[:, 0] - rotation * at[:, 1]
    down = motion[:, 1:2] + growth * at[:, 1] + rotation * at[:, 0]
    return np.stack([right, down], axis=2)


def _weighted_medians(
    values: Float[np.ndarray, "p n"], weights: Float[np.ndarray, "p n"]
) -> Float[np.ndarray, " p"]:
    order = np.argsort(values, axis=1)
    heap = np.cumsum(np.take_along_axis(weights, order, axis=1), axis=1)
    half = (heap < heap[:, -1:] / 2).sum(axis=1).clip(max=values.shape[1] - 1)
    return np.asarray(np.take_along_axis(values, order, axis=1)[np.arange(len(values)), half])


def _label(
    velocity: Float[np.ndarray, "pairs 4"], follows: Float[np.ndarray, " pairs"], config: CameraConfig
) -> CameraLabel:
    net = np.median(velocity, axis=0)
    amounts = np.abs(net)
    total = float(np.median(np.linalg.norm(velocity, axis=1)))
    trust = float(np.median(follows))
    if total < config.still:
        return _labelled("static", trust, 1 - total / config.still, total)
    steadiness = float(np.linalg.norm(net)) / total
    if steadiness < config.steady:
        return _labelled("handheld", trust, 1 - steadiness / config.steady, total)
    kind = int(amounts.argmax())
    share = float(amounts[kind] / np.linalg.norm(amounts)) ** 2
    if share < config.dominant:
        return _labelled("mixed", trust, 1 - share / config.dominant, total)
    return _labelled(
        _DIRECTIONS[kind][int(net[kind] > 0)], trust, (share - config.dominant) / (1 - config.dominant), total
    )


_DIRECTIONS: tuple[tuple[CameraMotion, CameraMotion], ...] = (
    ("pan_right", "pan_left"),
    ("tilt_down", "tilt_up"),
    ("zoom_out", "zoom_in"),
    ("roll", "roll"),
)
"""Per kind, the label when content moves against and along the axis (right, down, outwards, clockwise)."""


def _labelled(motion: CameraMotion, trust: float, clearness: float, speed: float) -> CameraLabel:
    return CameraLabel(motion=motion, confidence=round(trust * (0.5 + 0.5 * clearness), 3), speed=speed)
