"""Whether a clip shows what was asked for, by its pixels: colour, shape, motion, size, place, camera.

Nothing is learned. What the checker makes of rendered clips is compared with their scenes in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations

import numpy as np
from jaxtyping import Float, UInt8

from kinema.world.camera_seen import seen_camera
from kinema.world.looking import Blob, Track, blobs, follow
from kinema.world.outlines import SYMMETRY, templates
from kinema.world.render import render
from kinema.world.scene import FPS, RADII, Camera, Colour, Extent, Motion, Place, Scene, Shape, Thing

_STILL, _MOVED = 0.06, 0.1
"""Sides over which a centre wanders at rest; the least way that is a motion."""
_TURNING_PER_S, _GROWING_PER_S = 0.3, 0.1


@dataclass(frozen=True)
class Seen:
    """What one object of a clip was seen to be and to do."""

    shape: Shape
    colour: Colour
    motion: Motion
    radius: float
    x: float
    y: float
    frames: int


@dataclass(frozen=True)
class Verdict:
    """What of the wishes for one object came true. `size` and `place` are None where they were not asked."""

    colour: bool
    shape: bool
    motion: bool
    size: bool | None = None
    place: bool | None = None

    @property
    def obeyed(self) -> bool:
        """Colour, shape and motion are all right."""
        return self.colour and self.shape and self.motion


def look(frames: UInt8[np.ndarray, "t h w 3"]) -> list[Seen]:
    """The objects of a clip, most visible first."""
    tracks = sorted(follow(frames), key=lambda track: -sum(blob.radius for _, blob in track.seen))
    return [_seen(track) for track in tracks]


def check(scene: Scene, frames: UInt8[np.ndarray, "t h w 3"]) -> list[Verdict]:
    """A verdict for each object of `scene`, under the pairing with what is seen that is kindest to all.

    An object more or less than asked for counts: what is not seen has nothing right.
    """
    seen: list[Seen | None] = list(look(frames)[: len(scene.things) + 1])
    if len(seen) > len(scene.things) and len(scene.things) == 1:
        seen = seen[:1]
    seen += [None] * max(0, len(scene.things) - len(seen))
    judged = [
        [_judge(thing, item, scene) for thing, item in zip(scene.things, order, strict=True)]
        for order in permutations(seen, len(scene.things))
    ]
    return max(judged, key=lambda verdicts: sum(_points(verdict) for verdict in verdicts))


def check_camera(scene: Scene, frames: UInt8[np.ndarray, "t h w 3"]) -> bool:
    """Whether the background moves as the camera of `scene` would make it."""
    return seen_camera(frames) is scene.camera


def _points(verdict: Verdict) -> float:
    return verdict.obeyed + 0.3 * (verdict.colour + verdict.shape + verdict.motion)


def _judge(thing: Thing, seen: Seen | None, scene: Scene) -> Verdict:
    if seen is None:
        return Verdict(colour=False, shape=False, motion=False)
    spun = thing.motion is Motion.SPIN and thing.shape not in SYMMETRY
    wanted = Motion.STILL if spun else thing.motion
    middle = (max(1.0, scene.width / scene.height) / 2, max(1.0, scene.height / scene.width) / 2)
    return Verdict(
        colour=seen.colour is thing.colour,
        shape=seen.shape is thing.shape,
        motion=seen.motion is wanted or scene.camera is not Camera.STATIC,
        size=None if thing.extent is Extent.MEDIUM else _extent(seen) is thing.extent,
        place=None if thing.place is None else _is_at(thing.place, seen.x - middle[0], seen.y - middle[1]),
    )


def _extent(seen: Seen) -> Extent:
    small, large = RADII[Extent.SMALL][1], RADII[Extent.LARGE][0]
    middle = sum(RADII[Extent.MEDIUM]) / 2
    if seen.radius < (small + middle) / 2:
        return Extent.SMALL
    return Extent.LARGE if seen.radius > (large + middle) / 2 else Extent.MEDIUM


def _is_at(place: Place, across: float, down: float) -> bool:
    match place:
        case Place.LEFT:
            return across < -abs(down)
        case Place.RIGHT:
            return across > abs(down)
        case Place.TOP:
            return down < -abs(across)
        case Place.BOTTOM:
            return down > abs(across)
        case Place.MIDDLE:
            return math.hypot(across, down) < 0.14


def _seen(track: Track) -> Seen:
    found = [blob for _, blob in track.seen]
    shape, first = _shape(found), found[0]
    colours = [blob.colour for blob in found]
    return Seen(
        shape=shape,
        colour=max(Colour, key=colours.count),
        motion=_motion(track, shape),
        radius=first.radius / _fill(shape),
        x=first.x,
        y=first.y,
        frames=len(found),
    )


@cache
def _fill(shape: Shape) -> float:
    """Radius of the disc of equal area, in shares of the circle around the shape, as it is drawn."""
    thing = Thing(shape=shape, colour=Colour.WHITE, radius=0.18)
    frame = render(Scene(things=(thing,), frames=1))[0]
    return blobs(frame)[0].radius / thing.radius


def _shape(found: Sequence[Blob]) -> Shape:
    """The shape whose best angle in each frame overlaps most, over all frames."""
    overlaps = np.stack([blob.overlaps for blob in found])
    kinds = np.array([template.shape for template in templates()])
    means = {shape: overlaps[:, kinds == shape].max(1).mean() for shape in Shape}
    return max(Shape, key=lambda shape: means[shape])


def _motion(track: Track, shape: Shape) -> Motion:
    """Told by the way of the centre, else by growth, else by turning."""
    if len(track.seen) < 3:
        return Motion.STILL
    times_s = np.array([index for index, _ in track.seen]) / FPS
    path = np.array([(blob.x, blob.y) for _, blob in track.seen])
    if (travel := _travel(_smooth(path))) is not None:
        return travel
    sizes = np.log([blob.radius for _, blob in track.seen])
    growth = float(np.polyfit(times_s, sizes, 1)[0])
    if abs(growth) > _GROWING_PER_S:
        return Motion.GROW if growth > 0 else Motion.SHRINK
    turning = _turning(track, shape)
    return Motion.SPIN if turning is not None and abs(turning) > _TURNING_PER_S else Motion.STILL


def _travel(path: Float[np.ndarray, "t 2"]) -> Motion | None:
    """A motion of the centre, if it moves at all."""
    wide, high = np.ptp(path, axis=0).tolist()
    if max(wide, high) < _MOVED:
        return None
    ways = np.abs(np.diff(path, axis=0)).sum(0)
    net = path[-1] - path[0]
    if wide > 0.3 * high and high > 0.3 * wide and _is_round(path):
        return Motion.CIRCLE
    if high > 2 * wide and ways[1] - abs(net[1]) > 0.08:
        return Motion.BOUNCE
    if abs(net[0]) > abs(net[1]):
        return Motion.RIGHT if net[0] > 0 else Motion.LEFT
    return Motion.DOWN if net[1] > 0 else Motion.UP


def _smooth(path: Float[np.ndarray, "t 2"]) -> Float[np.ndarray, "t 2"]:
    """Means of three neighbours, the ends as they are."""
    inner = (path[:-2] + path[1:-1] + path[2:]) / 3
    return np.concatenate([path[:1], inner, path[-1:]])


def _is_round(path: Float[np.ndarray, "t 2"]) -> bool:
    """Whether the path lies near a circle, and goes a good part around it."""
    columns = np.column_stack([2 * path, np.ones(len(path))])
    (x, y, rest), *_ = np.linalg.lstsq(columns, (path**2).sum(1), rcond=None)
    radius = math.sqrt(max(rest + x * x + y * y, 0))
    away = path - (x, y)
    error = np.abs(np.hypot(*away.T) - radius).mean()
    turned = abs(
        float(np.unwrap(np.arctan2(away[:, 1], away[:, 0]))[-1] - np.arctan2(away[0, 1], away[0, 0]))
    )
    return bool(0.08 < radius < 0.4 and error < 0.035 and turned > 1.5)


def _turning(track: Track, shape: Shape) -> float | None:
    """Radians a second, for a shape that shows it."""
    order = SYMMETRY.get(shape)
    if order is None:
        return None
    places = [index for index, template in enumerate(templates()) if template.shape is shape]
    angles = [templates()[places[int(blob.overlaps[places].argmax())]].angle for _, blob in track.seen]
    unwrapped = np.unwrap(np.array(angles) * order) / order
    times_s = np.array([index for index, _ in track.seen]) / FPS
    return float(np.polyfit(times_s, unwrapped, 1)[0])
