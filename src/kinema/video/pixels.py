"""A decoded PyAV frame to upright RGB pixels at the size wanted."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from av import VideoFrame
from jaxtyping import UInt8

from kinema.shapes import Size
from kinema.video.color import Transfer, tone_map
from kinema.video.orientation import orient

_BT709, _BT601 = 1, 5
_UNSPECIFIED = 2
_FULL_RANGE = 2
_BACKGROUND = 255  # behind transparent pixels


@dataclass(frozen=True)
class Geometry:
    """How stored pixels become displayed ones."""

    stored: Size
    displayed: Size
    mirror: bool
    turns: int

    @classmethod
    def of(cls, stored: Size, pixel_aspect: float, mirror: bool, turns: int) -> Geometry:
        """`pixel_aspect` is the width of a stored pixel over its height."""
        width = max(1, round(stored.width * pixel_aspect))
        upright = Size(height=stored.height, width=width)
        return cls(stored, _swapped(upright) if turns % 2 else upright, mirror, turns)


def to_rgb(
    frame: VideoFrame, geometry: Geometry, size: Size | None, interpolation: str
) -> UInt8[np.ndarray, "h w 3"]:
    """Upright RGB at `size` (displayed size when None), scaled by swscale during the conversion."""
    target = size or geometry.displayed
    stored = _swapped(target) if geometry.turns % 2 else target
    alpha = _has_alpha(frame)
    pixels = _flattened(frame, stored) if alpha else _converted(frame, stored, interpolation)
    return orient(pixels, geometry.mirror, geometry.turns) if geometry.mirror or geometry.turns else pixels


def _converted(frame: VideoFrame, size: Size, interpolation: str) -> UInt8[np.ndarray, "h w 3"]:
    transfer = int(frame.color_trc)
    hdr = transfer in (Transfer.PQ, Transfer.HLG)
    converted = frame.reformat(
        width=size.width,
        height=size.height,
        format="rgb48le" if hdr else "rgb24",
        interpolation=interpolation,
        src_colorspace=_matrix(frame),
        src_color_range=int(frame.color_range) or None,
        threads=1,
    )
    pixels = converted.to_ndarray()
    return tone_map(pixels, Transfer(transfer)) if hdr else pixels


def _matrix(frame: VideoFrame) -> int | None:
    """The YUV matrix; players take an untagged one for BT.709 in HD and BT.601 below, and so do we."""
    if (
        frame.format.is_rgb
        or not frame.format.name.startswith("yuv")
        or int(frame.colorspace) != _UNSPECIFIED
    ):
        return None
    return _BT709 if frame.width >= 1280 or frame.height >= 720 else _BT601


def _has_alpha(frame: VideoFrame) -> bool:
    return frame.format.name == "pal8" or any(part.is_alpha for part in frame.format.components)


def _flattened(frame: VideoFrame, size: Size) -> UInt8[np.ndarray, "h w 3"]:
    """Over a white background at the stored size, then scaled: colours under full transparency stay out."""
    pixels = frame.reformat(format="rgba", src_colorspace=_matrix(frame), threads=1).to_ndarray()
    alpha = pixels[..., 3:].astype(np.uint16)
    flat = ((pixels[..., :3] * alpha + _BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
    return scale(flat, size)


def scale(frame: UInt8[np.ndarray, "h w c"], size: Size) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Area average when smaller, bicubic when larger."""
    height, width = frame.shape[:2]
    if (height, width) == (size.height, size.width):
        return frame
    interpolation = cv2.INTER_AREA if size.height * size.width < height * width else cv2.INTER_CUBIC
    resized: UInt8[np.ndarray, "h2 w2 c"] = cv2.resize(
        frame, (size.width, size.height), interpolation=interpolation
    )
    return resized.reshape(size.height, size.width, frame.shape[2])


def _swapped(size: Size) -> Size:
    return Size(height=size.width, width=size.height)
