"""Classical quality of the picture: sharpness, blocking, exposure, noise; brightness; black, frozen and
letterboxed frames. No learned model: `technical_quality` says how the pixels are, not whether they please."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curate.sampling import Sampling, Score


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """`black_level`: a frame whose brightest hundredth is below it is black; `frozen_change`: frames that
    differ less, in grey levels, are the same; `border_level`: as dark as letterbox bars are."""

    fps: float = 2.0
    width: int = 320
    black_level: float = 24.0
    frozen_change: float = 0.15
    border_level: float = 24.0

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.width < 64:
            raise ValueError(f"quality needs fps > 0 and width >= 64, got {self.fps} and {self.width}")


@dataclass(frozen=True, kw_only=True)
class Crop:
    """What a letterbox leaves, as fractions of the frame: left, top, right, bottom edges."""

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    @property
    def bars(self) -> float:
        """Share of the frame that is bars."""
        return 1.0 - (self.right - self.left) * (self.bottom - self.top)


class QualityScorer:
    """Columns `technical_quality`, `brightness`, `black_frames`, `frozen_frames`, `letterbox` and `crop`."""

    def __init__(self, config: QualityConfig | None = None) -> None:
        self.config = config or QualityConfig()
        self.sampling = Sampling(fps=self.config.fps, width=self.config.width, grey=True)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w 1"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if not len(timestamps):
            return {}
        grey = frames[..., 0]
        crop = letterbox(grey, self.config)
        inside = cropped(grey, crop)
        black = [is_black(frame, self.config) for frame in grey]
        same = [frozen(left, right, self.config) for left, right in pairwise(inside)]
        return {
            "technical_quality": float(np.median([technical_quality(frame) for frame in _spread(inside)])),
            "brightness": round(float(inside.mean()) / 255, 4),
            "black_frames": float(np.mean(black)),
            "frozen_frames": float(np.mean(same)) if same else 0.0,
            "letterbox": round(crop.bars, 4),
            "crop": f"{crop.left:.4f},{crop.top:.4f},{crop.right:.4f},{crop.bottom:.4f}",
        }


_JUDGED = 6


def _spread(frames: UInt8[np.ndarray, "t h w"]) -> UInt8[np.ndarray, "t h w"]:
    """At most `_JUDGED` of them, evenly: the median of a long clip needs no more."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), _JUDGED)).round().astype(int)
    return np.asarray(frames[chosen], np.uint8)


def technical_quality(frame: UInt8[np.ndarray, "h w"]) -> float:
    """0 (unusable) to 1: the geometric mean of sharpness, freedom from blocks, exposure and clean flats."""
    parts = [sharpness(frame), 1 - blocking(frame), exposure(frame), 1 - noise(frame)]
    return float(np.prod(np.clip(parts, 0.01, 1.0)) ** (1 / len(parts)))


def sharpness(frame: UInt8[np.ndarray, "h w"]) -> float:
    """How much of the steps between neighbours a wide blur takes away (after Crete, 2007): 1 is crisp."""
    grey = frame.astype(np.float32)
    kept = max(_steps_kept(grey), _steps_kept(grey.T))
    return float(np.clip((0.70 - kept) / 0.45, 0, 1))


def _steps_kept(grey: Float[np.ndarray, "h w"]) -> float:
    wide = cv2.blur(grey, (9, 1))
    fine, coarse = (np.maximum(np.abs(np.diff(part, axis=1)) - _LEAST_STEP, 0) for part in (grey, wide))
    total = float(fine.sum())
    return 1 - float(np.maximum(fine - coarse, 0).sum()) / total if total > 0.01 * fine.size else 1.0


def blocking(frame: UInt8[np.ndarray, "h w"]) -> float:
    """How far steps at one phase of a grid stand out from the rest, 0 to 1; grids of 4 to 16 pixels."""
    grey = frame.astype(np.float32)
    return max(_grid(np.diff(grey, axis=1)), _grid(np.diff(grey, axis=0).T))


def _grid(steps: Float[np.ndarray, "n m"]) -> float:
    second = np.abs(np.diff(steps, axis=1))
    profile = np.minimum(second, 32).mean(axis=0)
    profile = profile / (cv2.blur(profile[None], (9, 1))[0] + 0.5)
    worst = 0.0
    for period in (4, 8, 16):
        usable = profile[: len(profile) // period * period].reshape(-1, period)
        if len(usable) >= 4:
            phases = np.sort(np.median(usable, axis=0))
            worst = max(worst, float(phases[-2:].mean() - phases[: period // 2].mean()))
    return float(np.clip((worst - 0.15) / 3.0, 0, 1))


def exposure(frame: UInt8[np.ndarray, "h w"]) -> float:
    """1 for a picture that uses the range, less for clipped shadows or lights and for a flat histogram."""
    share = cv2.calcHist([np.ascontiguousarray(frame)], [0], None, [256], [0, 256]).ravel().cumsum()
    share /= share[-1]
    low, middle, high = np.searchsorted(share, [0.02, 0.5, 0.98])
    clipped = max(float(share[2]) - 0.02, 0) + max(1 - float(share[252]) - 0.02, 0)
    contrast = np.clip((high - low) / 110, 0, 1)
    centred = 1 - max(abs(float(middle) - 118) - 70, 0) / 70
    return float(np.clip(contrast * max(centred, 0) * (1 - np.clip(clipped, 0, 0.9)), 0, 1))


def noise(frame: UInt8[np.ndarray, "h w"]) -> float:
    """Random grain in the smoothest places, 0 to 1 (about 8 grey levels); Immerkaer's kernel per block."""
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    rest = np.abs(cv2.filter2D(frame.astype(np.float32), cv2.CV_32F, kernel))
    blocks = cv2.blur(rest, (16, 16))[8::16, 8::16].ravel()
    smooth = float(np.quantile(blocks, 0.1)) if blocks.size else 0.0
    return float(np.clip(np.sqrt(np.pi / 2) / 6 * smooth / 8, 0, 1))


def is_black(frame: UInt8[np.ndarray, "h w"], config: QualityConfig) -> bool:
    """Nearly every pixel is dark."""
    return bool((frame < config.black_level).mean() >= 0.99)


def frozen(left: UInt8[np.ndarray, "h w"], right: UInt8[np.ndarray, "h w"], config: QualityConfig) -> bool:
    """The second frame repeats the first."""
    return bool(cv2.absdiff(left, right).mean() < config.frozen_change)


def letterbox(frames: UInt8[np.ndarray, "t h w"], config: QualityConfig) -> Crop:
    """The crop that removes dark bars which stay through all frames; the whole frame when there are none."""
    brightest = frames.max(axis=0)
    if np.quantile(brightest, 0.99) < config.black_level:
        return Crop()
    rows = np.flatnonzero(np.quantile(brightest, 0.98, axis=1) >= config.border_level)
    columns = np.flatnonzero(np.quantile(brightest, 0.98, axis=0) >= config.border_level)
    if not rows.size or not columns.size:
        return Crop()
    height, width = brightest.shape
    top, bottom = _edges(rows, height)
    left, right = _edges(columns, width)
    return Crop(left=left, top=top, right=right, bottom=bottom)


_LEAST_BAR = 0.015
_LEAST_STEP = 1.5  # grey levels: below it are rounding and shading


def _edges(lit: np.ndarray, length: int) -> tuple[float, float]:
    """Bars thinner than `_LEAST_BAR` are a picture's own dark rim."""
    first, last = float(lit[0]) / length, float(lit[-1] + 1) / length
    return first if first >= _LEAST_BAR else 0.0, last if last <= 1 - _LEAST_BAR else 1.0


def cropped(frames: UInt8[np.ndarray, "t h w"], crop: Crop) -> UInt8[np.ndarray, "t h w"]:
    """The frames inside the bars."""
    height, width = frames.shape[1:]
    rows = slice(round(crop.top * height), max(round(crop.bottom * height), 1))
    columns = slice(round(crop.left * width), max(round(crop.right * width), 1))
    return frames[:, rows, columns]
