"""How much of the picture is text: titles, subtitles, signs. Detection and recognition by rapidocr.

The detector alone takes foliage for text, and the recogniser now and then reads two letters in it. A box
counts when two of three readings are alike, the others in wider cuts; both run only where text may be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from importlib.util import find_spec
from itertools import combinations
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from kinema.curate.sampling import Sampling, Score
from kinema.curate.text_regions import changed_cells, sheet, stroke_cells, text_regions, within
from kinema.errors import KinemaError

Box = Float[np.ndarray, "4 2"]
"""Corners x, y, clockwise from the upper left."""

UNCLIP_AREA = 1.7
"""The detector's boxes are this much larger than the text they surround."""


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """`detect`: "auto" is on where rapidocr is installed. `width`: pixels of the frames that are read.

    For a box to count, two readings must have so many `characters` (letters and digits), be `alike` (1:
    the same), and the surer one must have this `score`; `threads` per process.
    """

    detect: Literal["auto", "on", "off"] = "auto"
    fps: float = 1.0
    width: int = 640
    score: float = 0.7
    alike: float = 0.6
    characters: int = 2
    threads: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.score <= 1 or not 0 <= self.alike <= 1 or self.characters < 1 or self.threads < 1:
            raise ValueError(
                f"score must be in (0, 1], alike in [0, 1], characters and threads at least 1, got {self}"
            )

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
        self, frames: UInt8[np.ndarray, "t h w 1"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if not len(timestamps):
            return {"text_area": None}
        chosen = sorted({0, len(frames) // 2, len(frames) - 1})
        return {"text_area": max(text_areas(frames[chosen, ..., 0], self.config))}


def text_area(frame: UInt8[np.ndarray, "h w c"], config: TextConfig) -> float:
    """Share of one frame, 0 to 1, that lies under text that can be read; `c` is 1 or 3 (RGB)."""
    grey = frame[..., 0] if frame.shape[2] == 1 else cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return text_areas(grey[None], config)[0]


def text_areas(frames: UInt8[np.ndarray, "t h w"], config: TextConfig) -> list[float]:
    """`text_area` of each frame. Where a frame repeats the one before, its text is taken over unread."""
    found: list[float] = []
    boxes: list[Box] = []
    for before, frame in zip([None, *frames[:-1]], frames, strict=True):
        cells = stroke_cells(frame)
        if before is not None:
            boxes, anew = _unchanged(boxes, changed_cells(before, frame), (frame.shape[0], frame.shape[1]))
            cells &= anew
        if cells.any():
            boxes = boxes + _read(frame, cells, config)
        marked = cv2.fillPoly(np.zeros_like(frame), [box.astype(np.int32) for box in boxes], 1)
        found.append(round(float(marked.mean()) / UNCLIP_AREA, 5))
    return found


def _unchanged(
    boxes: Sequence[Box], changed: Bool[np.ndarray, "rows columns"], shape: tuple[int, int]
) -> tuple[list[Box], Bool[np.ndarray, "rows columns"]]:
    """The boxes in which nothing changed, and the cells to read anew: the changed ones, and other boxes."""
    kept: list[Box] = []
    anew = changed
    for box in boxes:
        cells = within(box, shape)
        if (cells & changed).any():
            anew = anew | cells
        else:
            kept.append(box)
    return kept, anew


def _read(
    frame: UInt8[np.ndarray, "h w"], cells: Bool[np.ndarray, "rows columns"], config: TextConfig
) -> list[Box]:
    """The boxes of text that can be read, around these cells."""
    regions = text_regions(cells, (frame.shape[0], frame.shape[1]))
    if not regions:
        return []
    shown = sheet(frame, regions)
    large = cv2.resize(shown.pixels, None, fx=_ENLARGED, fy=_ENLARGED, interpolation=cv2.INTER_CUBIC)
    return [shown.in_frame(box / _ENLARGED) for box in _readable(large, config)]


def _readable(picture: UInt8[np.ndarray, "h w"], config: TextConfig) -> list[Box]:
    """Boxes of which two readings are alike."""
    engine, colour = _engine(config), cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR)
    first = engine(colour)
    if first.boxes is None:
        return []
    boxes = [np.asarray(box, np.float32) for box in first.boxes]
    readings = [[(text, score)] for text, score in zip(first.txts, first.scores, strict=True)]
    for share in _GROWTHS:
        open_ = [index for index, read in enumerate(readings) if not _agree(read, config)]
        if not open_:
            break
        again = engine.recognize_txt([_cut(colour, _grown(boxes[index], share)) for index in open_])
        for index, text, score in zip(open_, again.txts, again.scores, strict=True):
            readings[index].append((text, score))
    return [box for box, read in zip(boxes, readings, strict=True) if _agree(read, config)]


def _agree(readings: Sequence[tuple[str, float]], config: TextConfig) -> bool:
    """Whether two readings (text, confidence) are alike, and the surer one is sure enough."""
    return any(
        max(score, other_score) >= config.score and _alike(text, other, config)
        for (text, score), (other, other_score) in combinations(readings, 2)
    )


def _alike(text: str, other: str, config: TextConfig) -> bool:
    left, right = _letters(text), _letters(other)
    if min(len(left), len(right)) < config.characters:
        return False
    return SequenceMatcher(None, left, right, autojunk=False).ratio() >= config.alike


def _letters(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())


_GROWTHS = (0.15, -0.1)


def _grown(box: Box, share: float) -> Box:
    """Grown on each side by a share of its height."""
    down = (box[3] - box[0]) * share
    along = (box[1] - box[0]) / (np.linalg.norm(box[1] - box[0]) + 1e-6) * np.linalg.norm(down)
    return np.asarray(box + np.stack([-along - down, along - down, along + down, down - along]))


def _cut(picture: UInt8[np.ndarray, "h w 3"], box: Box) -> UInt8[np.ndarray, "h2 w2 3"]:
    """The inside of a box, upright; beyond the picture its edge is repeated. Tall ones are turned."""
    width = max(int(np.linalg.norm(box[1] - box[0])), 1)
    height = max(int(np.linalg.norm(box[3] - box[0])), 1)
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    to_upright = cv2.getPerspectiveTransform(box.astype(np.float32), corners)
    cut = cv2.warpPerspective(
        picture, to_upright, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(np.rot90(cut) if height >= 1.5 * width else cut, np.uint8)


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
            "Global.text_score": 0.0,
            "EngineConfig.onnxruntime.intra_op_num_threads": config.threads,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": _LONGEST_SHEET,
        }
    )


_LONGEST_SHEET = 2000
_ENLARGED = 1.5
"""Words of two letters are found more surely."""
