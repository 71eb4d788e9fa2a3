"""Random scenes, each a pure function of its seed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from kinema.world.render import (
    GROWTH_PER_S,
    HOP,
    LARGEST,
    MOVE_PER_S,
    ORBIT,
    PAN_PER_S,
    PANS,
    WAYS,
    ZOOM_PER_S,
    aspect_half,
    poses,
)
from kinema.world.scene import (
    FPS,
    RADII,
    SPEEDS,
    Backdrop,
    Camera,
    Colour,
    Extent,
    Ground,
    Motion,
    Pace,
    Place,
    Scene,
    Shape,
    Thing,
    held_out,
)

T = TypeVar("T")
Room = tuple[float, float, float, float]
"""Left, right, top and bottom."""
_TRIES = 200
_GAP = 0.04


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """Which scenes are drawn.

    `objects`: the shares of one, two and three. `camera_share`: of clips in which the camera moves.
    `motions`: of the objects of a video, under a camera at rest. `middle_share`: of the videos of one object
    under such a camera, how many begin near the middle, at most `middle_spread` sides from it across and
    down, so that only the caption tells where it goes; what moves to the edge stops there. One that bounces
    never does.
    `held_out`: draw what is left out of training (True), what is in it (False), or both (None).
    """

    height: int = 64
    width: int = 64
    frames: int = 16
    objects: tuple[float, float, float] = (0.7, 0.25, 0.05)
    grounds: tuple[Ground, ...] = tuple(Ground)
    camera_share: float = 0.15
    extents: tuple[Extent, ...] = tuple(Extent)
    motions: tuple[Motion, ...] = tuple(Motion)
    middle_share: float = 0.0
    middle_spread: float = 0.1
    held_out: bool | None = False

    def __post_init__(self) -> None:
        if min(self.objects) < 0 or sum(self.objects) <= 0:
            raise ValueError(f"objects must be shares of one, two and three, got {self.objects}")
        if not self.grounds or not self.extents or not self.motions:
            raise ValueError("grounds, extents and motions must not be empty")
        for name in ("camera_share", "middle_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.middle_spread < 0.5:
            raise ValueError(f"middle_spread must be in [0, 0.5), got {self.middle_spread}")


def draw_scene(config: WorldConfig, seed: int) -> Scene:
    """One scene; the same config and seed give the same one."""
    generator = np.random.default_rng([seed, 20261124])
    shares = np.array(config.objects) / sum(config.objects)
    count = 1 + int(generator.choice(3, p=shares))
    moving = config.frames > 1 and count == 1 and generator.random() < config.camera_share
    camera = _one(generator, list(Camera)[1:]) if moving else Camera.STATIC
    things = _things(config, count, camera, generator)
    if _may_begin_in_the_middle(things, camera, config) and generator.random() < config.middle_share:
        things = (_in_the_middle(things[0], config, generator),)
    return Scene(
        things=things,
        backdrop=_backdrop(config, camera, generator),
        camera=camera,
        height=config.height,
        width=config.width,
        frames=config.frames,
    )


def scenes(config: WorldConfig, count: int, seed: int) -> Iterator[Scene]:
    """`count` scenes of one seed."""
    return (draw_scene(config, seed * 1_000_003 + index) for index in range(count))


def _may_begin_in_the_middle(things: tuple[Thing, ...], camera: Camera, config: WorldConfig) -> bool:
    wanted = config.middle_share > 0 and config.frames > 1
    alone = len(things) == 1 and things[0].motion is not Motion.BOUNCE
    return wanted and alone and camera is Camera.STATIC


def _in_the_middle(thing: Thing, config: WorldConfig, generator: np.random.Generator) -> Thing:
    x, y = aspect_half(config.width / config.height)
    aside, below = generator.uniform(-config.middle_spread, config.middle_spread, 2).tolist()
    return replace(thing, x=x + aside, y=y + below, place=None)


def _things(
    config: WorldConfig, count: int, camera: Camera, generator: np.random.Generator
) -> tuple[Thing, ...]:
    """One after the other, each where it never touches those before it."""
    for _ in range(_TRIES):
        things: tuple[Thing, ...] = ()
        for _ in range(_TRIES):
            placed = _settle(_looks(config, count, camera, generator), config, camera, generator)
            if placed is not None and _apart(placed, things, config):
                things = (*things, placed)
            if len(things) == count:
                return things
    raise ValueError("no room for the objects in a picture of this shape; make it larger")


def _looks(config: WorldConfig, count: int, camera: Camera, generator: np.random.Generator) -> Thing:
    extents = [item for item in config.extents if count == 1 or item is not Extent.LARGE]
    extents = [item for item in extents if count < 3 or item is Extent.SMALL] or [Extent.SMALL]
    while True:
        shape, colour = _one(generator, list(Shape)), _one(generator, list(Colour))
        motion = _one(generator, list(config.motions)) if config.frames > 1 else Motion.STILL
        motion = Motion.STILL if camera is not Camera.STATIC else motion
        if config.frames == 1 or config.held_out in {None, held_out(shape, colour, motion)}:
            break
    extent = _one(generator, extents)
    moves = motion not in {Motion.STILL}
    return Thing(
        shape=shape,
        colour=colour,
        motion=motion,
        extent=extent,
        pace=_pace(generator) if moves else Pace.NORMAL,
        radius=float(generator.uniform(*RADII[extent])),
        angle=_angle(generator, motion, config.frames),
        phase=float(generator.uniform(0, 2 * math.pi if motion is Motion.CIRCLE else 1)),
        shade=float(generator.uniform(0.93, 1.0)),
    )


def _pace(generator: np.random.Generator) -> Pace:
    return Pace(str(generator.choice([Pace.NORMAL, Pace.SLOW, Pace.FAST], p=[0.6, 0.2, 0.2])))


def _angle(generator: np.random.Generator, motion: Motion, frames: int) -> float:
    free = motion is Motion.SPIN or (frames == 1 and generator.random() < 0.2)
    return float(generator.uniform(-math.pi, math.pi) if free else generator.uniform(-0.1, 0.1))


def _settle(
    thing: Thing, config: WorldConfig, camera: Camera, generator: np.random.Generator
) -> Thing | None:
    """A place where the whole motion stays in the picture, and the word for it."""
    middle, seconds = aspect_half(config.width / config.height), config.frames / FPS
    room = zip(_room(thing, seconds), _camera_room(thing, camera, seconds), strict=True)
    left, right, top, bottom = (max(pair) for pair in room)
    if left > 2 * middle[0] - right or top > 2 * middle[1] - bottom:
        return None
    x = float(generator.uniform(left, 2 * middle[0] - right))
    y = float(generator.uniform(top, 2 * middle[1] - bottom))
    placed = replace(thing, x=x, y=y)
    return replace(placed, place=_place(placed, middle))


def _camera_room(thing: Thing, camera: Camera, seconds: float) -> Room:
    """What a moving camera needs around a thing that must stay in sight, at most half a picture."""
    edge, gone = thing.radius + 0.01, min(PAN_PER_S * seconds, 0.4)
    if camera is Camera.ZOOM_IN:
        nearer = math.exp(ZOOM_PER_S * seconds)
        edge = 0.5 - (0.5 - edge * nearer) / nearer
    across, down = PANS.get(camera, (0, 0))
    return _stretched(edge, (-across * gone, -down * gone), 0.5)


def _room(thing: Thing, seconds: float) -> Room:
    """What must lie between the thing's first centre and the edges."""
    pace, edge = SPEEDS[thing.pace], thing.radius + 0.01
    match thing.motion:
        case Motion.BOUNCE:
            return _stretched(edge, (0, -HOP), 1.0)
        case Motion.CIRCLE:
            return _stretched(edge + ORBIT, (0, 0), 1.0)
        case Motion.GROW:
            grown = min(LARGEST, thing.radius * math.exp(GROWTH_PER_S * pace * seconds))
            return _stretched(grown + 0.01, (0, 0), 1.0)
        case _:
            across, down = WAYS.get(thing.motion, (0, 0))
            far = MOVE_PER_S * pace * seconds
            return _stretched(edge, (across * far, down * far), 0.72)


def _stretched(edge: float, way: tuple[float, float], most: float) -> Room:
    """`edge` on all sides, and the way on the side to which it leads, at most `most` there."""

    def side(far: float) -> float:
        return min(edge + far, max(most, edge)) if far > 0 else edge

    return side(-way[0]), side(way[0]), side(-way[1]), side(way[1])


def _place(thing: Thing, middle: tuple[float, float]) -> Place | None:
    """The word for a place that is clear enough to be said."""
    if thing.motion in {Motion.BOUNCE, Motion.CIRCLE}:
        return None  # the first frame is not at the centre
    across, down = thing.x - middle[0], thing.y - middle[1]
    if math.hypot(across, down) < 0.08:
        return Place.MIDDLE
    if max(abs(across), abs(down)) < 0.14:
        return None
    if abs(across) > abs(down) + 0.05:
        return Place.LEFT if across < 0 else Place.RIGHT
    if abs(down) > abs(across) + 0.05:
        return Place.TOP if down < 0 else Place.BOTTOM
    return None


def _apart(thing: Thing, others: Sequence[Thing], config: WorldConfig) -> bool:
    """Whether the thing never touches another, and looks like none of them."""
    if any((thing.shape, thing.colour) == (other.shape, other.colour) for other in others):
        return False
    return all(_distance(thing, other, config) > _GAP for other in others)


def _distance(thing: Thing, other: Thing, config: WorldConfig) -> float:
    """The least room between two things, over all frames."""
    times_s, aspect = np.arange(config.frames) / FPS, config.width / config.height
    pairs = zip(poses(thing, times_s, aspect), poses(other, times_s, aspect), strict=True)
    return min(math.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius for a, b in pairs)


def _backdrop(config: WorldConfig, camera: Camera, generator: np.random.Generator) -> Backdrop:
    grounds = list(config.grounds)
    if camera is not Camera.STATIC:
        grounds = [ground for ground in grounds if ground in {Ground.CHECKERED, Ground.NOISE}] or [
            Ground.CHECKERED
        ]
    ground = _one(generator, grounds)
    first, second = generator.uniform(15, 40), generator.uniform(60, 90)
    if ground is Ground.PLAIN:
        first = second = generator.uniform(20, 80)
    tint = generator.uniform(-12, 12, 3)
    return Backdrop(
        ground=ground,
        first=_rgb(first + tint),
        second=_rgb(second + tint),
        cell=float(generator.uniform(0.125, 0.25)),
        angle=float(generator.uniform(-math.pi, math.pi)),
        seed=int(generator.integers(1 << 30)),
    )


def _rgb(values: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (int(value) for value in np.clip(values, 0, 130))
    return red, green, blue


def _one(generator: np.random.Generator, items: Sequence[T]) -> T:
    return items[int(generator.integers(len(items)))]
