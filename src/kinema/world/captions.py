"""Scenes in words: several phrasings, with words left out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kinema.world.scene import Camera, Extent, Ground, Motion, Pace, Place, Scene, Thing

SIZES = {Extent.SMALL: ("small", "little"), Extent.LARGE: ("large", "big")}
PLACES = {
    Place.LEFT: ("on the left",),
    Place.RIGHT: ("on the right",),
    Place.TOP: ("at the top",),
    Place.BOTTOM: ("at the bottom",),
    Place.MIDDLE: ("in the middle",),
}
MOTIONS = {
    Motion.STILL: ("stays still", "does not move"),
    Motion.LEFT: ("moves left", "goes to the left"),
    Motion.RIGHT: ("moves right", "goes to the right"),
    Motion.UP: ("moves up", "rises"),
    Motion.DOWN: ("moves down", "falls"),
    Motion.SPIN: ("spins", "rotates"),
    Motion.BOUNCE: ("bounces", "jumps up and down"),
    Motion.GROW: ("grows", "gets larger"),
    Motion.SHRINK: ("shrinks", "gets smaller"),
    Motion.CIRCLE: ("circles around", "moves in a circle"),
}
PACES = {Pace.SLOW: ("slowly",), Pace.FAST: ("fast", "quickly")}
GROUNDS = {
    Ground.PLAIN: "on a plain background",
    Ground.GRADIENT: "on a gradient background",
    Ground.CHECKERED: "on a checkered background",
    Ground.NOISE: "on a noisy background",
}
CAMERAS = {
    Camera.PAN_LEFT: ("the camera pans left",),
    Camera.PAN_RIGHT: ("the camera pans right",),
    Camera.PAN_UP: ("the camera pans up",),
    Camera.PAN_DOWN: ("the camera pans down",),
    Camera.ZOOM_IN: ("the camera zooms in",),
    Camera.ZOOM_OUT: ("the camera zooms out",),
}


def describe(scene: Scene, generator: np.random.Generator) -> str:
    """One caption. Colour, shape and motion are always told; size, place and background by chance."""
    told = [_thing(thing, scene, generator) for thing in scene.things]
    joint = _one(generator, (" and ", ", ")) if len(told) < 3 else ", "
    caption = joint.join(told)
    if generator.random() < 0.3:
        caption += f" {GROUNDS[scene.backdrop.ground]}"
    if scene.camera is not Camera.STATIC:
        caption += f", {_one(generator, CAMERAS[scene.camera])}"
    elif scene.frames > 1 and generator.random() < 0.05:
        caption += ", static camera"
    return caption


def _thing(thing: Thing, scene: Scene, generator: np.random.Generator) -> str:
    words = [_one(generator, ("a", "a", "a", "the", "one"))]
    if thing.extent in SIZES and generator.random() < 0.6:
        words.append(_one(generator, SIZES[thing.extent]))
    words += [thing.colour.value, thing.shape.value]
    if words[0] == "a" and words[1][0] in "aeiou":
        words[0] = "an"
    told_place = thing.place is not None and generator.random() < 0.35
    if scene.frames == 1:
        return " ".join(
            words + ([_one(generator, PLACES[thing.place])] if thing.place and told_place else [])
        )
    if scene.camera is not Camera.STATIC and generator.random() < 0.5:
        return " ".join(words)
    words.append(_one(generator, MOTIONS[thing.motion]))
    if thing.pace in PACES and generator.random() < 0.7:
        words.append(_one(generator, PACES[thing.pace]))
    if thing.place and told_place and thing.motion in {Motion.STILL, Motion.SPIN, Motion.GROW, Motion.SHRINK}:
        words.append(_one(generator, PLACES[thing.place]))
    return " ".join(words)


def _one(generator: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(generator.integers(len(items)))]
