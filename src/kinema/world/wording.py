"""Other people's words for what is in the world, as the captions say it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kinema.encoders.grammar import Grammar, Language
from kinema.motion import CameraMove
from kinema.world.captions import CAMERAS, GROUNDS, MOTIONS, PACES, PLACES, SIZES
from kinema.world.scene import Camera, Colour, Ground, Motion, Place, Shape


def _each(said: str, *others: str) -> dict[str, str]:
    return dict.fromkeys(others, said)


def _merged(parts: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {phrase: said for part in parts for phrase, said in part.items()}


_SHAPES = (
    _each("circle", "dot", "ball", "disc", "disk", "sphere", "orb", "circles", "dots", "balls"),
    _each("square", "box", "block", "cube", "tile", "squares", "boxes"),
    _each("triangle", "pyramid", "wedge", "triangles"),
    _each("star", "starlet", "asterisk", "stars", "pentagram"),
    _each("ring", "donut", "doughnut", "hoop", "annulus", "torus", "hollow circle", "rings"),
)
_COLOURS = (
    _each("red", "crimson", "scarlet", "ruby", "reddish"),
    _each("orange", "amber", "tangerine"),
    _each("yellow", "golden", "gold", "lemon", "yellowish"),
    _each("green", "emerald", "lime", "greenish"),
    _each("blue", "azure", "cobalt", "sapphire", "bluish"),
    _each("purple", "violet", "lilac", "mauve", "purplish"),
    _each("white", "ivory", "snowy", "whitish"),
)
_SIZES = (
    _each("small", "tiny", "mini", "minuscule", "miniature"),
    _each("large", "huge", "giant", "enormous", "massive", "great"),
)
_PACES = (
    _each("fast", "rapidly", "swiftly", "speedily", "quick", "at high speed", "very fast"),
    _each("slowly", "slow", "gently", "gradually", "leisurely", "at low speed", "very slowly"),
)
_GOING: tuple[str, ...] = (
    "moves",
    "moving",
    "goes",
    "going",
    "travels",
    "travelling",
    "slides",
    "sliding",
    "drifts",
    "drifting",
)
_GOING += (
    "heads",
    "heading",
    "glides",
    "gliding",
    "flies",
    "flying",
    "shifts",
    "rolls",
    "rolling",
    "runs",
    "runs",
)
_TOWARDS = {
    "left": ("left", "leftwards", "leftward", "to the left", "towards the left", "toward the left"),
    "right": ("right", "rightwards", "rightward", "to the right", "towards the right", "toward the right"),
    "up": ("up", "upwards", "upward", "to the top", "towards the top"),
    "down": ("down", "downwards", "downward", "to the bottom", "towards the bottom"),
}
_KNOWN = {"goes to the left", "goes to the right"}
_WAYS = tuple(
    {
        f"{go} {way}": f"moves {direction}"
        for go in _GOING
        for way in ways
        if f"{go} {way}" not in {f"moves {direction}", *_KNOWN}
    }
    for direction, ways in _TOWARDS.items()
)
_MOTIONS = (
    _each("rises", "climbs", "ascends", "rising", "floats up", "lifts"),
    _each("falls", "drops", "sinks", "descends", "falling", "dropping", "falls down"),
    _each(
        "spins",
        "turns",
        "twirls",
        "whirls",
        "spinning",
        "rotating",
        "turning",
        "turns around",
        "spins around",
    ),
    _each("bounces", "hops", "bouncing", "jumps", "jumping", "hopping", "bounces up and down"),
    _each("grows", "expands", "swells", "enlarges", "growing", "expanding", "gets bigger", "becomes larger"),
    _each("grows", "becomes bigger", "inflates"),
    _each("shrinks", "contracts", "dwindles", "shrinking", "becomes smaller", "deflates", "gets tiny"),
    _each("circles around", "orbits", "circling", "orbiting", "revolves", "goes around", "circles"),
    _each(
        "moves in a circle", "moves in circles", "goes in circles", "goes in a circle", "moving in a circle"
    ),
    _each("stays still", "stands still", "is still", "remains still", "stationary", "motionless", "rests"),
    _each("stays still", "stays put", "stands", "stays", "does nothing", "not moving", "standing still"),
)
_PLACES = (
    _each("in the middle", "in the center", "in the centre", "at the center", "at the centre", "centered"),
    _each("on the left", "at the left", "on the left side", "to the left side"),
    _each("on the right", "at the right", "on the right side", "to the right side"),
    _each("at the top", "on top", "on the top", "in the upper part"),
    _each("at the bottom", "on the bottom", "in the lower part"),
)
_GROUNDS = (
    _each("background", "backdrop"),
    _each("plain", "solid", "flat", "uniform", "simple"),
    _each("checkered", "checkerboard", "chequered", "checked", "chessboard"),
    _each("noisy", "noise", "grainy", "textured", "cloudy"),
    _each("gradient", "shaded", "gradated"),
)
_CAMERAS = (
    *(
        _each(f"the camera pans {way}", f"camera pans {way}", f"panning {way}", f"the camera moves {way}")
        | _each(f"the camera pans {way}", f"camera moves {way}", f"pan {way}", f"camera pan {way}")
        for way in ("left", "right", "up", "down")
    ),
    *(
        _each(f"the camera pans {way}", f"the camera tilts {way}", f"camera tilts {way}", f"tilting {way}")
        | _each(f"the camera pans {way}", f"tilt {way}", f"camera tilt {way}")
        for way in ("up", "down")
    ),
    *(
        _each(f"the camera zooms {way}", f"camera zooms {way}", f"zooming {way}", f"zoom {way}")
        | _each(f"the camera zooms {way}", f"camera zoom {way}", f"the view zooms {way}", f"zooms {way}")
        for way in ("in", "out")
    ),
    _each("static camera", "fixed camera", "still camera", "camera static", "the camera is static"),
)
_FILLERS = (
    _each(
        "",
        "there is",
        "there are",
        "is",
        "are",
        "that",
        "which",
        "this",
        "video of",
        "a video of",
        "an image of",
    ),
    _each(
        "", "a clip of", "clip of", "a picture of", "picture of", "image of", "coloured", "colored", "shape"
    ),
    _each("", "we see", "showing", "shows", "of", "very", "against", "some", "its", "it"),
    _each("one", "single"),
    _each("and", "while", "with", "beside", "next to", "plus", "as"),
)

_SAID = {text: text for group in (MOTIONS, PLACES, CAMERAS) for texts in group.values() for text in texts}
"""The captions' own phrases are whole: what is inside them is not looked at."""

PHRASES: Mapping[str, str] = _merged(
    (
        *_SHAPES,
        *_COLOURS,
        *_SIZES,
        *_PACES,
        *_WAYS,
        *_MOTIONS,
        *_PLACES,
        *_GROUNDS,
        *_CAMERAS,
        *_FILLERS,
        _SAID,
    )
)
"""What is said to what the captions say. No caption of the world is changed by it."""

_TOWARDS_PLACE = {
    Place.LEFT: (-1.0, 0.0),
    Place.RIGHT: (1.0, 0.0),
    Place.TOP: (0.0, -1.0),
    Place.BOTTOM: (0.0, 1.0),
    Place.MIDDLE: (0.0, 0.0),
}
_MOVES: Mapping[Camera, CameraMove] = {
    Camera.PAN_LEFT: "pan_left",
    Camera.PAN_RIGHT: "pan_right",
    Camera.PAN_UP: "tilt_up",
    Camera.PAN_DOWN: "tilt_down",
    Camera.ZOOM_IN: "zoom_in",
    Camera.ZOOM_OUT: "zoom_out",
}
_GRAMMAR = Grammar(
    things=tuple(shape.value for shape in Shape),
    modifiers=(
        "a",
        "an",
        "the",
        "one",
        *(colour.value for colour in Colour),
        *(word for texts in SIZES.values() for word in texts),
    ),
    joints=("and",),
    phrases=tuple(text for texts in MOTIONS.values() for text in texts),
    shared=(*GROUNDS.values(), *(text for texts in CAMERAS.values() for text in texts), "static camera"),
    cameras={text: _MOVES[camera] for camera, texts in CAMERAS.items() for text in texts},
    grounds=tuple(GROUNDS.values()),
    moving_ground=GROUNDS[Ground.CHECKERED],
    motions=tuple(text for motion, texts in MOTIONS.items() if motion is not Motion.STILL for text in texts),
    manners=tuple(text for texts in PACES.values() for text in texts),
    rest=MOTIONS[Motion.STILL][0],
    places={text: way for place, way in _TOWARDS_PLACE.items() for text in PLACES[place]},
)
_OBEYED_MORE = {"circles around": "moves in a circle"}
"""Of two phrases of the captions the one that the embedded weights do better: 13 against 8 of 16."""
LANGUAGE = Language({phrase: _OBEYED_MORE.get(said, said) for phrase, said in PHRASES.items()}, _GRAMMAR)
"""Other words, and how the captions speak of several objects and the camera."""
