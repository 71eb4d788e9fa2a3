"""Pictures as they come: with alpha, in CMYK, with 16 bits, with a palette. All are RGB over white."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.video.reader import probe, read_frames

Image = pytest.importorskip("PIL.Image", reason="pictures of many kinds are written with Pillow")
COLOURS = ((220, 40, 30), (30, 200, 60), (40, 60, 210))


def bars() -> np.ndarray:
    return np.repeat(np.array(COLOURS, np.uint8)[None], 32, axis=0).repeat(16, axis=1)


def with_alpha(alpha: int) -> np.ndarray:
    """The bars, whole in the upper half, `alpha` of them in the lower."""
    opacity = np.full((32, 48, 1), 255, np.uint8)
    opacity[16:] = alpha
    return np.concatenate([bars(), opacity], axis=2)


def kinds(folder: Path) -> dict[str, Path]:
    picture = Image.fromarray(bars())
    rgba = Image.fromarray(with_alpha(255))
    deep = bars()[..., ::-1].astype(np.uint16) * 257
    cv2.imwrite(str(folder / "deep.png"), deep)
    cv2.imwrite(str(folder / "deep-alpha.png"), np.dstack([deep, np.full((32, 48), 65535, np.uint16)]))
    for name, made, options in (
        ("plain.png", picture, {}),
        ("alpha.png", rgba, {}),
        ("alpha.webp", rgba, {"lossless": True}),
        ("cmyk.jpg", picture.convert("CMYK"), {"quality": 97}),
        ("progressive.jpg", picture, {"quality": 97, "progressive": True}),
        ("palette.png", picture.quantize(8), {}),
    ):
        made.save(folder / name, **options)
    return {path.name: path for path in folder.iterdir()}


def seen(path: Path, row: int) -> list[list[int]]:
    (frame,) = read_frames(path, [0.0])
    return [frame[row, 8 + 16 * bar].astype(int).tolist() for bar in range(3)]


def test_every_kind_of_picture_is_the_same_picture(tmp_path: Path) -> None:
    for name, path in kinds(tmp_path).items():
        assert probe(path).is_image, name
        assert np.abs(np.subtract(seen(path, 6), COLOURS)).max() <= 2, name
        assert np.abs(np.subtract(seen(path, 28), COLOURS)).max() <= 2, name


@pytest.mark.parametrize("suffix", [".png", ".webp"])
@pytest.mark.parametrize("alpha", [0, 128])
def test_what_is_seen_through_is_white(tmp_path: Path, suffix: str, alpha: int) -> None:
    path = tmp_path / f"picture{suffix}"
    Image.fromarray(with_alpha(alpha)).save(path, **({"lossless": True} if suffix == ".webp" else {}))
    through = np.array(COLOURS) * alpha / 255 + 255 * (1 - alpha / 255)
    assert np.abs(np.subtract(seen(path, 6), COLOURS)).max() <= 1
    assert np.abs(np.subtract(seen(path, 28), through)).max() <= 1


def test_sixteen_bits_of_grey_keep_their_brightness(tmp_path: Path) -> None:
    levels = (np.arange(48, dtype=np.uint16) * 1300)[None].repeat(32, axis=0)
    Image.fromarray(levels).save(tmp_path / "grey.png")
    (frame,) = read_frames(tmp_path / "grey.png", [0.0])
    assert np.abs(frame[4, :, 0].astype(float) - levels[4] / 257).max() <= 2
    assert (frame == frame[..., :1]).all()


def test_a_palette_with_a_clear_colour_is_white_there(tmp_path: Path) -> None:
    palette = Image.fromarray(bars()).quantize(8)
    clear = palette.getpixel((24, 4))
    palette.save(tmp_path / "clear.png", transparency=clear)
    assert seen(tmp_path / "clear.png", 4) == [list(COLOURS[0]), [255, 255, 255], list(COLOURS[2])]
