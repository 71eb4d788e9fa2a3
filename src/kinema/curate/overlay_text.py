"""How much of the picture is text: titles, subtitles, signs. Detection and recognition by rapidocr.

The detector alone takes foliage for text, so a box counts only when the recogniser reads at least two
characters in it with confidence; it runs only where there are boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from kinema.curate.sampling import Sampling, Score
from kinema.errors import KinemaError

UNCLIP_AREA = 1.7
"""The detector's boxes are this much larger than the text they surround."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """`detect`: "auto" is on where rapidocr is installed. `width`: pixels of the frames that are read.

    `score` and `characters`: what the recogniser must reach for a box to count; `threads` per process.
    """

    detect: Literal["auto", "on", "off"] = "auto"
    fps: float = 1.0
    width: int = 640
    score: float = 0.8
    characters: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.score <= 1 or self.characters < 1 or self.threads < 1:
            raise ValueError(f"got score {self.score}, characters {self.characters}, threads {self.threads}")

    @property
    def active(self) -> bool:
        """Whether text is looked for; raises `KinemaError` when it must be and cannot."""
        if self.detect == "on" and not _installed():
            raise KinemaError(
                "curate.text.detect is on, but rapidocr is not installed: pip install 'kinema[text]'"
            )
        return self.detect != "off" and _installed()


class TextScorer:
    """Column `text_area`: largest share of the picture under text in the first, middle and last frame."""

    def __init__(self, config: TextConfig | None = None) -> None:
        self.config = config or TextConfig(detect="on")
        self.sampling = Sampling(fps=self.config.fps, width=self.config.width, grey=True)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w c"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if not len(timestamps):
            return {"text_area": None}
        areas: list[float] = []
        seen: list[UInt8[np.ndarray, "h w c"]] = []
        for index in sorted({0, len(frames) // 2, len(frames) - 1}):
            if not any(_same(frames[index], other) for other in seen):
                seen.append(frames[index])
                areas.append(text_area(frames[index], self.config))
        return {"text_area": max(areas)}


def text_area(frame: UInt8[np.ndarray, "h w c"], config: TextConfig) -> float:
    """Share of one frame, 0 to 1, that lies under text that can be read; `c` is 1 or 3 (RGB)."""
    rows = rows_with_strokes(frame)
    if not rows.any():
        return 0.0
    part = frame[rows]
    colour = np.repeat(part, 3, axis=2) if part.shape[2] == 1 else part[..., ::-1]
    result = _engine(config)(np.ascontiguousarray(colour))
    if result.boxes is None:
        return 0.0
    mask = np.zeros(part.shape[:2], np.uint8)
    for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
        if score >= config.score and sum(char.isalnum() for char in text) >= config.characters:
            cv2.fillPoly(mask, [np.asarray(box, np.int32)], 1)
    return round(float(mask.sum()) / frame[..., 0].size / UNCLIP_AREA, 5)


_STROKE_STEP, _STROKE_SIDE = 50, 7
_CELL, _STROKE_SHARE, _LEAST_CELLS = 8, 0.2, 2
_MARGIN_CELLS = 2
_SAME_LEVELS = 2.0


def rows_with_strokes(frame: UInt8[np.ndarray, "h w c"]) -> Bool[np.ndarray, " h"]:
    """The rows that may hold text, with a margin; the detector's cost is that of the rows it sees.

    Text is a dense row of thin strokes that stand out on both sides: opening or closing the picture removes
    them, and leaves edges as they are.
    """
    grey = frame[..., 0] if frame.shape[2] == 1 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    grey, side = np.ascontiguousarray(grey), np.ones((_STROKE_SIDE, _STROKE_SIDE), np.uint8)
    bright = cv2.morphologyEx(grey, cv2.MORPH_TOPHAT, side) > _STROKE_STEP
    strokes = bright | (cv2.morphologyEx(grey, cv2.MORPH_BLACKHAT, side) > _STROKE_STEP)
    height, width = grey.shape
    cells = (max(width // _CELL, 1), max(height // _CELL, 1))
    share = cv2.resize(strokes.astype(np.float32), cells, interpolation=cv2.INTER_AREA)
    dense = (cv2.blur(share, (4, 2)) > _STROKE_SHARE).sum(axis=1) >= _LEAST_CELLS
    wide = np.convolve(dense, np.ones(2 * _MARGIN_CELLS + 1), mode="same") > 0 if len(dense) > 4 else dense
    row = np.minimum(np.arange(height) * cells[1] // height, cells[1] - 1)
    return np.asarray(wide[row], np.bool_)


def _same(left: UInt8[np.ndarray, "h w c"], right: UInt8[np.ndarray, "h w c"]) -> bool:
    """Frames so alike, block by block, that no text can have come or gone."""
    height, width = left.shape[:2]
    size = (max(width // 16, 1), max(height // 16, 1))
    blocks = [
        cv2.resize(frame, size, interpolation=cv2.INTER_AREA).astype(np.int16) for frame in (left, right)
    ]
    return bool(np.abs(blocks[0] - blocks[1]).max() <= _SAME_LEVELS)


def _installed() -> bool:
    return find_spec("rapidocr") is not None


@cache
def _engine(config: TextConfig) -> Any:  # noqa: ANN401 (rapidocr has no types)
    if not _installed():
        raise KinemaError("text detection needs rapidocr: pip install 'kinema[text]'")
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.use_cls": False,
            "Global.text_score": config.score,
            "EngineConfig.onnxruntime.intra_op_num_threads": config.threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": config.width,
        }
    )
