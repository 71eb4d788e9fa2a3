from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from kinema.video.orientation import exif_orientation, orient, upright
from kinema.video.reader import probe, read_frames
from kinema.video.writer import image_bytes


def exif(orientation: int, order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 1) + entry + struct.pack(f"{order}I", 0)


def with_exif(jpeg: bytes, orientation: int, order: str) -> bytes:
    block = b"Exif\0\0" + exif(orientation, order)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


# Where the corners of the stored picture (red, blue / green, black) are on display.
CORNERS = {
    1: "rb/gk",
    2: "br/kg",
    3: "kg/br",
    4: "gk/rb",
    5: "rg/bk",
    6: "gr/kb",
    7: "kb/gr",
    8: "bk/rg",
}
COLOURS = {"r": (255, 0, 0), "g": (0, 255, 0), "b": (0, 0, 255), "k": (0, 0, 0)}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_come_upright(tmp_path: Path, orientation: int, order: str) -> None:
    stored = np.zeros((32, 48, 3), dtype=np.uint8)
    stored[:16, :24], stored[16:, :24], stored[:16, 24:] = COLOURS["r"], COLOURS["g"], COLOURS["b"]
    path = tmp_path / "photo.jpg"
    path.write_bytes(with_exif(image_bytes(stored, ".jpg"), orientation, order))
    shown = read_frames(path, [0.0])[0]
    assert (probe(path).width, probe(path).height) == (shown.shape[1], shown.shape[0])
    top, bottom = CORNERS[orientation].split("/")
    for corner, (row, column) in zip(top + bottom, [(4, 4), (4, -4), (-4, 4), (-4, -4)], strict=True):
        assert np.abs(shown[row, column].astype(int) - COLOURS[corner]).max() < 40, corner


@pytest.mark.parametrize("head", [b"", b"II*\0", b"Exif\0\0MM\0*\0\0", exif(9), b"Exif\0\0nonsense" * 3])
def test_broken_exif_means_upright(head: bytes) -> None:
    assert exif_orientation(head) == 1


def test_four_turns_and_two_mirrors_are_nothing() -> None:
    frame = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert np.array_equal(orient(orient(frame, True, 0), True, 0), frame)
    assert np.array_equal(orient(orient(frame, False, 3), False, 1), frame)
    assert upright(1) == (False, 0)
