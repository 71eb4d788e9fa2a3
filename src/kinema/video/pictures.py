"""What reading gives: facts of a source, decoded pictures, frames; and a count of openings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from av import VideoFrame
from jaxtyping import UInt8

from kinema.location import Located
from kinema.shapes import Size
from kinema.video.pixels import Geometry, to_rgb, to_small


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """What the container states. `frames` and `duration_s` are 0 where only decoding can tell."""

    path: Located
    width: int
    height: int
    fps: float
    frames: int
    duration_s: float
    codec: str
    rotation: int
    is_image: bool
    start_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Displayed from `pts_s` (seconds from the first frame) on; `index` counts frames in order."""

    pts_s: float
    index: int
    pixels: UInt8[np.ndarray, "h w 3"]


@dataclass
class DecodeCount:
    """How often a source was opened for decoding in this process; proves that curation decodes once."""

    opened: int = 0


decode_count = DecodeCount()


class Picture:
    """A decoded frame whose pixels are converted only when asked for, at any number of sizes."""

    def __init__(
        self, raw: VideoFrame, pts_s: float, duration_s: float, index: int, geometry: Geometry
    ) -> None:
        self.raw = raw
        self.pts_s = pts_s
        self.duration_s = duration_s
        self.index = index
        self._geometry = geometry
        self._small: dict[tuple[Size, bool], UInt8[np.ndarray, "h w c"]] = {}

    def small(self, size: Size, *, grey: bool = False) -> UInt8[np.ndarray, "h w c"]:
        """Upright pixels much smaller than the source; c is 1 when grey. Converted once for all who ask."""
        if (size, grey) not in self._small:
            self._small[size, grey] = to_small(self.raw, self._geometry, size, grey=grey)
        return self._small[size, grey]

    def rgb(self, size: Size | None = None, interpolation: str = "AREA") -> UInt8[np.ndarray, "h w 3"]:
        """Upright RGB at `size`; at the displayed size when None."""
        return to_rgb(self.raw, self._geometry, size, interpolation)
