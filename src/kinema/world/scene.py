"""What a clip of the world shows: one to three objects, a background, a camera. All of it plain values.

Lengths are shares of the picture's shorter side, y points down, times are seconds, angles are radians.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FPS = 8.0
"""Frames a second of every clip."""


class Shape(StrEnum):
    """Outlines that stay apart at a radius of 8 pixels."""

    CIRCLE = "circle"
    SQUARE = "square"
    TRIANGLE = "triangle"
    STAR = "star"
    RING = "ring"


class Colour(StrEnum):
    """Colours that stay apart on every background."""

    RED = "red"
    ORANGE = "orange"
    YELLOW = "yellow"
    GREEN = "green"
    BLUE = "blue"
    PURPLE = "purple"
    WHITE = "white"


class Motion(StrEnum):
    """What an object does all the time; one that moves to the edge of the picture stops there."""

    STILL = "still"
    LEFT = "left"
    RIGHT = "right"
    UP = "up"
    DOWN = "down"
    SPIN = "spin"
    BOUNCE = "bounce"
    GROW = "grow"
    SHRINK = "shrink"
    CIRCLE = "circle"


class Extent(StrEnum):
    """How large an object is; medium is not said."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class Pace(StrEnum):
    """How fast it moves; normal is not said."""

    SLOW = "slow"
    NORMAL = "normal"
    FAST = "fast"


class Place(StrEnum):
    """Where an object is in the first frame, when it is said."""

    LEFT = "left"
    RIGHT = "right"
    TOP = "top"
    BOTTOM = "bottom"
    MIDDLE = "middle"


class Ground(StrEnum):
    """What is behind the objects."""

    PLAIN = "plain"
    GRADIENT = "gradient"
    CHECKERED = "checkered"
    NOISE = "noise"


class Camera(StrEnum):
    """What the camera does; the picture moves the other way."""

    STATIC = "static"
    PAN_LEFT = "pan_left"
    PAN_RIGHT = "pan_right"
    PAN_UP = "pan_up"
    PAN_DOWN = "pan_down"
    ZOOM_IN = "zoom_in"
    ZOOM_OUT = "zoom_out"


RADII = {Extent.SMALL: (0.13, 0.15), Extent.MEDIUM: (0.165, 0.195), Extent.LARGE: (0.215, 0.25)}
"""Radius of the circle around an object: at 64 pixels 8 to 16."""
SPEEDS = {Pace.SLOW: 0.6, Pace.NORMAL: 1.0, Pace.FAST: 1.5}
"""Times the normal speed."""


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One object. `x`, `y`: its centre in the first frame; `phase`: where on its orbit it begins."""

    shape: Shape
    colour: Colour
    motion: Motion = Motion.STILL
    extent: Extent = Extent.MEDIUM
    pace: Pace = Pace.NORMAL
    place: Place | None = None
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.18
    angle: float = 0.0
    phase: float = 0.0
    shade: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.radius < 0.5:
            raise ValueError(f"radius must be in (0, 0.5), got {self.radius}")


@dataclass(frozen=True, kw_only=True)
class Backdrop:
    """The background: two dull colours (RGB, 0 to 255), the size of its pattern, and a seed for noise."""

    ground: Ground = Ground.PLAIN
    first: tuple[int, int, int] = (40, 40, 40)
    second: tuple[int, int, int] = (70, 70, 70)
    cell: float = 0.2
    angle: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything that a clip shows. `speaks_of_ground` and the like are the caption's business."""

    things: tuple[Thing, ...]
    backdrop: Backdrop = Backdrop()
    camera: Camera = Camera.STATIC
    height: int = 64
    width: int = 64
    frames: int = 16

    def __post_init__(self) -> None:
        if not 1 <= len(self.things) <= 3:
            raise ValueError(f"a scene has one to three objects, got {len(self.things)}")
        if min(self.height, self.width) < 16 or self.frames < 1:
            raise ValueError(
                f"at least 16x16 pixels and 1 frame, got {self.height}x{self.width}x{self.frames}"
            )


def held_out(shape: Shape, colour: Colour, motion: Motion) -> bool:
    """Whether training never shows this combination: one colour of seven for each shape and motion.

    The numbers of shape, twice the colour and three times the motion, in the order above from 0, add up
    to a multiple of seven.
    """
    numbers = list(Shape).index(shape) + 2 * list(Colour).index(colour) + 3 * list(Motion).index(motion)
    return numbers % len(Colour) == 0
