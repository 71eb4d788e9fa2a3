"""Scenes to frames: anti-aliased polygons over a background, seen by a camera."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.world.scene import FPS, SPEEDS, Backdrop, Camera, Colour, Ground, Motion, Scene, Shape, Thing

RGB = {
    Colour.RED: (222, 40, 40),
    Colour.ORANGE: (245, 140, 25),
    Colour.YELLOW: (245, 225, 50),
    Colour.GREEN: (45, 180, 70),
    Colour.BLUE: (45, 95, 235),
    Colour.PURPLE: (165, 60, 205),
    Colour.WHITE: (240, 240, 240),
}
_SHIFT = 6
MOVE_PER_S, TURN_PER_S, GROWTH_PER_S, ORBIT_PER_S = 0.2, 1.0, 0.3, 2.4
"""Normal speeds: sides, radians, log radius and radians of the orbit per second."""
PAN_PER_S, ZOOM_PER_S = 0.16, 0.2
"""The camera's: sides and log scale per second."""
ORBIT, HOP, HOPS_PER_S = 0.17, 0.34, 0.8
"""Radius of an orbit; height of a bounce, and how often it comes at normal speed."""
SMALLEST, LARGEST = 0.07, 0.36
"""Radii at which shrinking and growing end."""
WAYS = {Motion.LEFT: (-1, 0), Motion.RIGHT: (1, 0), Motion.UP: (0, -1), Motion.DOWN: (0, 1)}
PANS = {
    Camera.PAN_LEFT: (-1, 0),
    Camera.PAN_RIGHT: (1, 0),
    Camera.PAN_UP: (0, -1),
    Camera.PAN_DOWN: (0, 1),
}
"""Directions, right and down."""


@dataclass(frozen=True)
class Pose:
    """A thing at one time, in the world (before the camera)."""

    x: float
    y: float
    radius: float
    angle: float


def poses(thing: Thing, times_s: Float[np.ndarray, " t"], aspect: float = 1.0) -> list[Pose]:
    """Where a thing is at each time; `aspect` is the picture's width / height."""
    wide, high = max(aspect, 1.0), max(1 / aspect, 1.0)
    return [_pose(thing, float(time_s), wide, high) for time_s in times_s]


def _pose(thing: Thing, time_s: float, wide: float, high: float) -> Pose:
    gone = time_s * SPEEDS[thing.pace]
    x, y, radius, angle = thing.x, thing.y, thing.radius, thing.angle
    match thing.motion:
        case Motion.LEFT | Motion.RIGHT | Motion.UP | Motion.DOWN:
            across, down = WAYS[thing.motion]
            x = _stopped(x, across * MOVE_PER_S * gone, radius, wide)
            y = _stopped(y, down * MOVE_PER_S * gone, radius, high)
        case Motion.SPIN:
            angle += TURN_PER_S * gone
        case Motion.BOUNCE:
            y -= HOP * _hop(thing.phase + HOPS_PER_S * gone)
        case Motion.GROW:
            radius = min(LARGEST, radius * math.exp(GROWTH_PER_S * gone))
        case Motion.SHRINK:
            radius = max(SMALLEST, radius * math.exp(-GROWTH_PER_S * gone))
        case Motion.CIRCLE:
            turn = thing.phase + ORBIT_PER_S * gone
            x, y = x + ORBIT * math.cos(turn), y + ORBIT * math.sin(turn)
        case Motion.STILL:
            pass
    return Pose(x, y, radius, angle)


def _stopped(start: float, way: float, radius: float, length: float) -> float:
    """Where a thing that sets out from `start` is, if it stops at the edges of `length`."""
    least, most = min(radius, start), max(length - radius, start)
    return min(most, max(least, start + way))


def _hop(phase: float) -> float:
    """A ball's height over the floor, in hops: 0 at whole phases, 1 between them."""
    place = phase % 1.0
    return 4 * place * (1 - place)


def render(scene: Scene, first_s: float = 0.0) -> UInt8[np.ndarray, "t h w 3"]:
    """All frames of a scene from `first_s` on, at `FPS`."""
    times_s = first_s + np.arange(scene.frames) / FPS
    side, aspect = min(scene.height, scene.width), scene.width / scene.height
    paths = [poses(thing, times_s, aspect) for thing in scene.things]
    frames = np.empty((scene.frames, scene.height, scene.width, 3), np.uint8)
    for index, time_s in enumerate(times_s.tolist()):
        offset_x, offset_y, scale = camera_pose(scene.camera, time_s)
        frames[index] = _ground(scene.backdrop, scene.height, scene.width, (offset_x, offset_y, scale))
        for thing, path in zip(scene.things, paths, strict=True):
            pose = path[index]
            centre = (
                ((pose.x - aspect_half(aspect)[0]) * scale + aspect_half(aspect)[0] - offset_x) * side,
                ((pose.y - aspect_half(aspect)[1]) * scale + aspect_half(aspect)[1] - offset_y) * side,
            )
            _draw(frames[index], thing, centre, pose.radius * scale * side, pose.angle)
    return frames


def aspect_half(aspect: float) -> tuple[float, float]:
    """The middle of the picture in sides."""
    return max(aspect, 1.0) / 2, max(1 / aspect, 1.0) / 2


def camera_pose(camera: Camera, time_s: float) -> tuple[float, float, float]:
    """How far the camera has gone to the right and down (in sides), and how much larger things look."""
    across, down = PANS.get(camera, (0, 0))
    nearer = {Camera.ZOOM_IN: 1, Camera.ZOOM_OUT: -1}.get(camera, 0)
    return across * PAN_PER_S * time_s, down * PAN_PER_S * time_s, math.exp(nearer * ZOOM_PER_S * time_s)


def _draw(
    frame: UInt8[np.ndarray, "h w 3"], thing: Thing, centre: tuple[float, float], radius: float, angle: float
) -> None:
    colour = tuple(int(min(255, value * thing.shade)) for value in RGB[thing.colour])
    if inner := hole(thing.shape):
        _ring(frame, centre, (inner * radius, radius), colour)
        return
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    # A pixel's centre is at a whole number in OpenCV, at a half here.
    points = corners(thing.shape) @ turn * radius + np.array(centre) - 0.5
    polygon = np.round(points * (1 << _SHIFT)).astype(np.int32)
    cv2.fillPoly(frame, [polygon], colour, cv2.LINE_AA, _SHIFT)


def _ring(
    frame: UInt8[np.ndarray, "h w 3"],
    centre: tuple[float, float],
    radii: tuple[float, float],
    colour: tuple[int, ...],
) -> None:
    rows, columns = np.ogrid[: frame.shape[0], : frame.shape[1]]
    away = np.sqrt((columns + 0.5 - centre[0]) ** 2 + (rows + 0.5 - centre[1]) ** 2)
    cover = np.clip(radii[1] - away + 0.5, 0, 1) * np.clip(away - radii[0] + 0.5, 0, 1)
    frame[:] = np.round(frame + cover[..., None] * (np.array(colour) - frame.astype(float))).astype(np.uint8)


@cache
def corners(shape: Shape) -> Float[np.ndarray, "n 2"]:
    """The outline in the unit circle, x and y, the top first."""
    match shape:
        case Shape.CIRCLE | Shape.RING:
            return _around(np.full(40, 1.0))
        case Shape.SQUARE:
            return _around(np.ones(4), turn=math.pi / 4)
        case Shape.TRIANGLE:
            return _around(np.ones(3))
        case Shape.STAR:
            return _around(np.tile([1.0, 0.42], 5))


def hole(shape: Shape) -> float:
    """The radius of the hole in the unit circle, 0 for none."""
    return 0.52 if shape is Shape.RING else 0.0


def _around(radii: Float[np.ndarray, " n"], turn: float = 0.0) -> Float[np.ndarray, "n 2"]:
    angles = turn + 2 * math.pi * np.arange(len(radii)) / len(radii)
    return np.stack([radii * np.sin(angles), -radii * np.cos(angles)], axis=-1)


def _ground(
    backdrop: Backdrop, height: int, width: int, camera: tuple[float, float, float]
) -> UInt8[np.ndarray, "h w 3"]:
    first, second = np.array(backdrop.first, float), np.array(backdrop.second, float)
    if backdrop.ground is Ground.PLAIN:
        return np.full((height, width, 3), first, np.uint8)
    side = min(height, width)
    offset_x, offset_y, scale = camera
    columns = ((np.arange(width) + 0.5 - width / 2) / side + offset_x) / scale
    rows = ((np.arange(height) + 0.5 - height / 2) / side + offset_y) / scale
    match backdrop.ground:
        case Ground.GRADIENT:
            share = np.clip(
                0.5
                + 0.5 * (columns * math.cos(backdrop.angle) + rows[:, None] * math.sin(backdrop.angle)) / 0.7,
                0,
                1,
            )
        case Ground.CHECKERED:
            share = (
                0.5
                - 0.5
                * _square_wave(columns, backdrop.cell, side, scale)
                * _square_wave(rows, backdrop.cell, side, scale)[:, None]
            )
        case _:
            share = _cloud(backdrop.seed, rows, columns)
    mixed: UInt8[np.ndarray, "h w 3"] = np.round(first + share[..., None] * (second - first)).astype(np.uint8)
    return mixed


def _square_wave(
    places: Float[np.ndarray, " n"], cell: float, side: int, scale: float
) -> Float[np.ndarray, " n"]:
    """+1 and -1 in turn, with edges as soft as a pixel."""
    distance = np.abs((places / cell) % 2 - 1) - 0.5
    return np.clip(distance * cell * side * scale, -0.5, 0.5) * 2


@lru_cache(maxsize=64)
def _cloud_table(seed: int) -> Float[np.ndarray, "n n"]:
    table: Float[np.ndarray, "n n"] = np.random.default_rng(seed).random((32, 32))
    return table


def _cloud(
    seed: int, rows: Float[np.ndarray, " h"], columns: Float[np.ndarray, " w"]
) -> Float[np.ndarray, "h w"]:
    """Smooth noise that goes on without end: a table of random values, interpolated."""
    table = _cloud_table(seed)
    y, x = (rows * 9) % 32, (columns * 9) % 32
    top, left = y.astype(int) % 32, x.astype(int) % 32
    dy, dx = (y % 1)[:, None], (x % 1)[None]
    low, right = (top + 1) % 32, (left + 1) % 32
    upper = table[np.ix_(top, left)] * (1 - dx) + table[np.ix_(top, right)] * dx
    lower = table[np.ix_(low, left)] * (1 - dx) + table[np.ix_(low, right)] * dx
    mixed: Float[np.ndarray, "h w"] = upper * (1 - dy) + lower * dy
    return mixed
