from __future__ import annotations

import pytest

from kinema.shapes import Bucket, Size, resolution


@pytest.mark.parametrize("side", [16, 32, 48, 64, 96, 128, 256, 512])
def test_pixel_resolutions_keep_their_area(side: int) -> None:
    table = resolution(f"{side}px")
    assert table.sizes["1.00"] == Size(side, side)
    for key, size in table.sizes.items():
        assert size.height % 8 == 0
        assert size.width % 8 == 0
        assert size.area == pytest.approx(side * side, rel=0.3 if side < 64 else 0.16)
        if side >= 64:
            assert size.aspect_ratio == pytest.approx(float(key), rel=0.1)


def test_pixel_resolutions_are_symmetric() -> None:
    sizes = set(resolution("96px").sizes.values())
    assert len(sizes) == 7
    assert {Size(size.width, size.height) for size in sizes} == sizes


def test_small_tables_hold_no_size_twice() -> None:
    sizes = list(resolution("16px").sizes.values())
    assert len(sizes) == len(set(sizes))


@pytest.mark.parametrize(("name", "ratios"), [("144p", 17), ("4k", 17), ("256", 40), ("1024", 40)])
def test_published_tables_are_complete(name: str, ratios: int) -> None:
    assert len(resolution(name).sizes) == ratios


def test_square_tables_scale_from_1024() -> None:
    for key, size in resolution("1024").sizes.items():
        assert resolution("512").sizes[key] == Size(size.height // 2, size.width // 2)
        assert resolution("256").sizes[key] == Size(size.height // 4, size.width // 4)


def test_nearest_aspect_ratio() -> None:
    assert resolution("240p").nearest(1080 / 1920) == "0.56"
    assert resolution("64px").nearest(100.0) == "1.78"


def test_bucket_size_and_text() -> None:
    bucket = Bucket("240p", 16, "0.56")
    assert bucket.size == Size(240, 426)
    assert str(bucket) == "240p 16f 240x426"


@pytest.mark.parametrize("name", ["", "64", "63px", "0px", "240", "p", "640P"])
def test_unknown_resolutions_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="resolution"):
        resolution(name)


def test_sizes_need_pixels() -> None:
    with pytest.raises(ValueError, match="0x4"):
        Size(0, 4)
