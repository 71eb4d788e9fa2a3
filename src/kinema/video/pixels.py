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
from kinema.video.small_frames import PLANAR_BITS, ROWS_PER_OUTPUT, small_plane

_BT709, _BT601 = 1, 5
_UNSPECIFIED = 2
_LUMA_SHARES = {_BT709: (0.2126, 0.0722), _BT601: (0.299, 0.114), 6: (0.299, 0.114)}
"""Of red and blue, by matrix (ITU-T H.273)."""
_FULL_FORMATS = ("yuvj",)
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
    """Upright RGB at `size` (displayed size when None), scaled during the conversion: to half the width or
    less plane by plane, which is faster and keeps the mean colour, else by swscale.
    """
    target = size or geometry.displayed
    stored = _swapped(target) if geometry.turns % 2 else target
    alpha = _has_alpha(frame)
    pixels = None if alpha or interpolation != "AREA" else _averaged(frame, stored, None)
    if pixels is None:
        pixels = _flattened(frame, stored) if alpha else _converted(frame, stored, interpolation)
    return orient(pixels, geometry.mirror, geometry.turns) if geometry.mirror or geometry.turns else pixels


def to_small(frame: VideoFrame, geometry: Geometry, size: Size, *, grey: bool) -> UInt8[np.ndarray, "h w c"]:
    """Like `to_rgb` for looking at quickly, or its luma when `grey` (c is 1): not every row is read."""
    stored = _swapped(size) if geometry.turns % 2 else size
    pixels = _averaged(frame, stored, ROWS_PER_OUTPUT, grey=grey)
    if pixels is None:
        pixels = to_rgb(frame, geometry, size, "AREA")
        return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None] if grey else pixels
    return orient(pixels, geometry.mirror, geometry.turns) if geometry.mirror or geometry.turns else pixels


def _averaged(
    frame: VideoFrame, size: Size, rows_read: int | None, *, grey: bool = False
) -> UInt8[np.ndarray, "h w c"] | None:
    """RGB or luma from the averages of the planes, of `rows_read` rows (None: all) for each row of the
    result; None for larger pictures and for formats whose planes are no YUV.

    Less than half of swscale's cost, which first reads and filters all of them.
    """
    shares = _LUMA_SHARES.get(_matrix(frame) or int(frame.colorspace))
    bits = PLANAR_BITS.get(frame.format.name)
    hdr = int(frame.color_trc) in (Transfer.PQ, Transfer.HLG)
    if shares is None or bits is None or hdr or 2 * size.width > frame.width:
        return None
    full = int(frame.color_range) == _FULL_RANGE or frame.format.name.startswith(_FULL_FORMATS)
    planes = [
        small_plane(frame.planes[index], bits, size.width, size.height, rows_read)
        for index in range(1 if grey else 3)
    ]
    return _stretched(planes[0], full)[..., None] if grey else _to_rgb_matrix(planes, *shares, full)


def _stretched(luma: UInt8[np.ndarray, "h w"], full: bool) -> UInt8[np.ndarray, "h w"]:
    if full:
        return luma
    levels = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(luma, levels), np.uint8)


def _to_rgb_matrix(
    planes: list[UInt8[np.ndarray, "h w"]], red: float, blue: float, full: bool
) -> UInt8[np.ndarray, "h w 3"]:
    """R = Y + 2 (1 - Kr) Cr, B = Y + 2 (1 - Kb) Cb, G from Y = Kr R + Kg G + Kb B."""
    light, colour = (1.0, 1.0) if full else (255 / 219, 255 / 224)
    to_red, to_blue = 2 * (1 - red) * colour, 2 * (1 - blue) * colour
    green = 1 - red - blue
    rows = [(light, 0, to_red), (light, -to_blue * blue / green, -to_red * red / green), (light, to_blue, 0)]
    black = 0 if full else 16
    matrix = [(*row, -row[0] * black - (row[1] + row[2]) * 128) for row in rows]
    return np.asarray(cv2.transform(cv2.merge(planes), np.array(matrix)), np.uint8)


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
