"""Sizes, resolutions and buckets: the shapes that a batch can have.

An aspect ratio is height / width. A resolution is an area together with one size per aspect ratio.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from math import log, sqrt


@dataclass(frozen=True, order=True)
class Size:
    """Pixels, height first."""

    height: int
    width: int

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise ValueError(f"a size needs at least one pixel each way, got {self.height}x{self.width}")

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def aspect_ratio(self) -> float:
        """Height / width."""
        return self.height / self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


@dataclass(frozen=True)
class Resolution:
    """A named area, and its size for each aspect ratio (keys are height / width as text)."""

    name: str
    area: int
    sizes: dict[str, Size]

    def nearest(self, aspect_ratio: float) -> str:
        """The key of the closest aspect ratio; the first of two that are equally close."""
        return min(self.sizes, key=lambda key: abs(float(key) - aspect_ratio))


@dataclass(frozen=True, order=True)
class Bucket:
    """One batch shape: a resolution's name, a number of frames and an aspect ratio of that resolution."""

    resolution: str
    frames: int
    aspect_ratio: str

    @property
    def size(self) -> Size:
        return resolution(self.resolution).sizes[self.aspect_ratio]

    def __str__(self) -> str:
        return f"{self.resolution} {self.frames}f {self.size}"


@cache
def resolution(name: str) -> Resolution:
    """A published resolution (144p ... 4k, 256, 512, 1024) or kinema's own, such as "64px".

    Raises `ValueError` for a name that is neither.
    """
    if name in _VIDEO_AREAS:
        return Resolution(name, _VIDEO_AREAS[name], _video_sizes(name))
    if name in _SQUARE_DIVISORS:
        return _square_resolution(name)
    if match := re.fullmatch(r"([1-9]\d*)px", name):
        return _pixel_resolution(int(match[1]))
    published = ", ".join([*_VIDEO_AREAS, *_SQUARE_DIVISORS])
    raise ValueError(f"unknown resolution {name!r}; expected one of {published}, or a side such as 64px")


# Keys of the video tables, and of each resolution the sizes in the same order. The published roundings
# follow no formula (444x925 beside 452x904), so the sizes are data.
_VIDEO_RATIOS = "0.38 0.43 0.48 0.50 0.53 0.54 0.56 0.62 0.67 0.75 1.00 1.33 1.50 1.78 1.89 2.00 2.08"
_VIDEO_AREAS = {
    "144p": 144 * 256,
    "240p": 240 * 426,
    "360p": 360 * 640,
    "480p": 480 * 854,
    "720p": 720 * 1280,
    "1080p": 1080 * 1920,
    "4k": 2160 * 3840,
}
_VIDEO_SIZES = {
    "144p": (
        "117x312 125x291 133x277 135x270 139x262 141x260 144x256 151x241 156x234 166x221 192x192 "
        "221x165 235x156 256x144 263x139 271x135 277x132"
    ),
    "240p": (
        "196x522 210x490 222x462 226x452 232x438 236x436 240x426 252x404 262x393 276x368 320x320 "
        "370x278 392x262 426x240 440x232 452x226 462x222"
    ),
    "360p": (
        "294x784 314x732 332x692 340x680 350x662 352x652 360x640 380x608 392x588 416x554 480x480 "
        "554x416 588x392 640x360 660x350 678x340 692x332"
    ),
    "480p": (
        "392x1046 420x980 444x925 452x904 466x880 470x870 480x854 506x810 522x784 554x738 640x640 "
        "740x555 784x522 854x480 880x466 906x454 924x444"
    ),
    "720p": (
        "588x1568 628x1466 666x1388 678x1356 698x1318 706x1306 720x1280 758x1212 784x1176 832x1110 960x960 "
        "1108x832 1176x784 1280x720 1320x698 1358x680 1386x666"
    ),
    "1080p": (
        "882x2352 942x2198 998x2080 1018x2036 1048x1980 1058x1958 1080x1920 1138x1820 1176x1764 1248x1664 "
        "1440x1440 1662x1246 1764x1176 1920x1080 1980x1048 2036x1018 2078x998"
    ),
    "4k": (
        "1764x4704 1886x4400 1996x4158 2036x4072 2096x3960 2118x3918 2160x3840 2276x3642 2352x3528 2494x3326 "
        "2880x2880 3326x2494 3528x2352 3840x2160 3958x2096 4072x2036 4156x1994"
    ),
}
_SQUARE_DIVISORS = {"256": 4, "512": 2, "1024": 1}
_SQUARE_SIZES = (
    "512x2048 512x1984 512x1920 512x1856 576x1792 576x1728 576x1664 640x1600 640x1536 704x1472 704x1408 "
    "704x1344 768x1344 768x1280 832x1216 832x1152 896x1152 896x1088 960x1088 960x1024 1024x1024 1024x960 "
    "1088x960 1088x896 1152x896 1152x832 1216x832 1280x768 1344x768 1408x704 1472x704 1536x640 1600x640 "
    "1664x576 1728x576 1792x576 1856x512 1920x512 1984x512 2048x512"
)
_PIXEL_RATIOS = ((9, 16), (2, 3), (3, 4), (1, 1), (4, 3), (3, 2), (16, 9))
_PIXEL_MULTIPLE = 8


def _parse(sizes: str) -> list[Size]:
    return [Size(*map(int, size.split("x"))) for size in sizes.split()]


def _video_sizes(name: str) -> dict[str, Size]:
    return dict(zip(_VIDEO_RATIOS.split(), _parse(_VIDEO_SIZES[name]), strict=True))


def _square_resolution(name: str) -> Resolution:
    divisor = _SQUARE_DIVISORS[name]
    sizes = {
        str(round(size.aspect_ratio, 2)): Size(size.height // divisor, size.width // divisor)
        for size in _parse(_SQUARE_SIZES)
    }
    return Resolution(name, int(name) ** 2, sizes)


def _pixel_resolution(side: int) -> Resolution:
    if side % _PIXEL_MULTIPLE:
        raise ValueError(f"a px resolution needs a multiple of {_PIXEL_MULTIPLE}, got {side}px")
    ratios = [height / width for height, width in _PIXEL_RATIOS]
    sizes = [_closest_size(side * side, ratio) for ratio in ratios]
    best = {size: min(ratios, key=lambda ratio: abs(log(ratio / size.aspect_ratio))) for size in sizes}
    table = {f"{ratio:.2f}": size for ratio, size in zip(ratios, sizes, strict=True) if best[size] == ratio}
    return Resolution(f"{side}px", side * side, table)


def _closest_size(area: int, aspect_ratio: float) -> Size:
    """The size on the grid that differs least from the area and the ratio, each as a factor."""
    if aspect_ratio > 1:
        landscape = _closest_size(area, 1 / aspect_ratio)
        return Size(landscape.width, landscape.height)

    def error(size: Size) -> float:
        return abs(log(size.area / area)) + abs(log(size.aspect_ratio / aspect_ratio))

    return min(
        (
            Size(height, width)
            for height in _around(sqrt(area * aspect_ratio))
            for width in _around(sqrt(area / aspect_ratio))
        ),
        key=error,
    )


def _around(length: float) -> tuple[int, int]:
    below = max(_PIXEL_MULTIPLE, int(length // _PIXEL_MULTIPLE) * _PIXEL_MULTIPLE)
    return below, below + _PIXEL_MULTIPLE
