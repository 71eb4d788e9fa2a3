"""EXIF orientation of still images, mirrored ones too, which PyAV's `rotation` cannot tell from a turn."""

from __future__ import annotations

import struct

import numpy as np
from jaxtyping import UInt8

_ORIENTATION_TAG = 0x0112
# (mirrored left to right first, then quarter turns counterclockwise) for EXIF orientations 1 to 8.
_UPRIGHT = {
    1: (False, 0),
    2: (True, 0),
    3: (False, 2),
    4: (True, 2),
    5: (True, 1),
    6: (False, 3),
    7: (True, 3),
    8: (False, 1),
}


def exif_orientation(head: bytes) -> int:
    """The orientation (1 to 8) that the head of an image file states; 1 when it states none."""
    if head[:4] in (b"II*\0", b"MM\0*"):
        return _from_tiff(head)
    for marker, skip in ((b"Exif\0\0", 6), (b"eXIf", 4), (b"EXIF", 8)):
        at = head.find(marker)
        if at >= 0:
            block = head[at + skip :]
            return _from_tiff(block[6:] if block.startswith(b"Exif\0\0") else block)
    return 1


def upright(orientation: int) -> tuple[bool, int]:
    """(mirror, quarter turns counterclockwise) that bring a stored picture upright."""
    return _UPRIGHT[orientation]


def orient(frame: UInt8[np.ndarray, "h w c"], mirror: bool, turns: int) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Mirror left to right, then turn counterclockwise by quarter turns."""
    mirrored = frame[:, ::-1] if mirror else frame
    return np.ascontiguousarray(np.rot90(mirrored, turns))


def _from_tiff(block: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 8:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", block, 4)
        (entries,) = struct.unpack_from(f"{order}H", block, directory)
        for entry in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", block, directory + 2 + 12 * entry)
            if tag == _ORIENTATION_TAG:
                return int(value) if value in _UPRIGHT else 1
    except struct.error:
        return 1
    return 1
