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
from jaxtyping import Float, UInt8

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
    if not may_hold_text(frame):
        return 0.0
    colour = np.repeat(frame, 3, axis=2) if frame.shape[2] == 1 else frame[..., ::-1]
    result = _engine(config)(np.ascontiguousarray(colour))
    if result.boxes is None:
        return 0.0
    mask = np.zeros(frame.shape[:2], np.uint8)
    for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
        if score >= config.score and sum(char.isalnum() for char in text) >= config.characters:
            cv2.fillPoly(mask, [np.asarray(box, np.int32)], 1)
    return round(float(mask.mean()) / UNCLIP_AREA, 5)


_STROKE_STEP = 40
_LEAST_STROKES = 0.0005
_SAME_LEVELS = 2.0


def may_hold_text(frame: UInt8[np.ndarray, "h w c"]) -> bool:
    """Text needs strong edges: a picture with next to none is spared the detector."""
    grey = frame[..., 0] if frame.shape[2] == 1 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    return bool((edges > _STROKE_STEP).mean() > _LEAST_STROKES)


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
