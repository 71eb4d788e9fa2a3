"""What is seen in the frames of a clip: blobs of the world's colours, followed from frame to frame.

Nothing here knows what was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from kinema.world.outlines import likeness, moments
from kinema.world.render import RGB
from kinema.world.scene import Colour

_LEAST_PIXELS = 20
_FURTHEST = 0.3
"""Sides that an object may go between two frames."""
_LEAST_BRIGHT = 118
"""No background has a channel this bright, no object lacks one."""
_REFERENCE = np.array([RGB[colour] for colour in Colour], np.float32)


@dataclass(frozen=True)
class Blob:
    """One coloured region of one frame. Lengths in sides; `overlaps` with every template."""

    colour: Colour
    x: float
    y: float
    radius: float
    overlaps: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Track:
    """One object over time; `blobs` has None where it is not seen."""

    blobs: tuple[Blob | None, ...]

    @property
    def seen(self) -> list[tuple[int, Blob]]:
        """Frame numbers and blobs."""
        return [(index, blob) for index, blob in enumerate(self.blobs) if blob is not None]


def blobs(frame: UInt8[np.ndarray, "h w 3"]) -> list[Blob]:
    """The coloured regions of a frame, largest first."""
    side = min(frame.shape[:2])
    bright = bright_pixels(frame)
    least = max(6, round(_LEAST_PIXELS * (side / 64) ** 2))
    found = [
        _blob(frame, part, colour, side)
        for colour, area in _areas(frame, bright)
        for part in _parts(area, least)
    ]
    return sorted((blob for blob in found if blob is not None), key=lambda blob: -blob.radius)


def bright_pixels(frame: UInt8[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Where an object is, whole or for the greater part."""
    bright: Bool[np.ndarray, "h w"] = cv2.GaussianBlur(frame, (3, 3), 0.5).max(-1) >= _LEAST_BRIGHT
    return bright


def _areas(
    frame: UInt8[np.ndarray, "h w 3"], bright: Bool[np.ndarray, "h w"]
) -> list[tuple[Colour, Bool[np.ndarray, "h w"]]]:
    """The bright pixels of each colour; edges, which are mixtures, go to the colour of most neighbours."""
    nearest = np.where(bright, _nearest_colour(frame), -1)
    found = []
    for index, colour in enumerate(Colour):
        area = nearest == index
        if area.any():
            found.append((colour, area))
    return found


def _nearest_colour(frame: UInt8[np.ndarray, "h w 3"]) -> np.ndarray:
    """By direction of colour: brightness, which edges change, counts little."""
    pixels = frame.astype(np.float32)
    scaled = pixels / np.maximum(pixels.max(-1, keepdims=True), 1)
    reference = _REFERENCE / _REFERENCE.max(-1, keepdims=True)
    distance = ((scaled[..., None, :] - reference) ** 2).sum(-1)
    nearest: np.ndarray = distance.argmin(-1)
    return nearest


def _parts(area: Bool[np.ndarray, "h w"], least: int) -> list[Bool[np.ndarray, "h w"]]:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(area.astype(np.uint8), connectivity=8)
    return [labels == label for label in range(1, count) if stats[label, cv2.CC_STAT_AREA] >= least]


def _blob(
    frame: UInt8[np.ndarray, "h w 3"], part: Bool[np.ndarray, "h w"], colour: Colour, side: int
) -> Blob | None:
    cover = _cover(frame, part)
    if cover.sum() < 1:
        return None
    x, y, _ = moments(cover)
    radius = float(np.sqrt(max(1, (cover > 0.5).sum()) / np.pi)) / side
    return Blob(colour, (x + 0.5) / side, (y + 0.5) / side, radius, likeness(cover))


def _cover(frame: UInt8[np.ndarray, "h w 3"], part: Bool[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """How much of each pixel near the region is the object: its place between background and colour."""
    near = cv2.dilate(part.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    pixels = frame.astype(np.float32)
    inside = np.median(pixels[part], axis=0)
    ring = near & ~cv2.dilate(part.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    outside = np.median(pixels[ring], axis=0) if ring.any() else np.zeros(3, np.float32)
    way = inside - outside
    share = (pixels - outside) @ way / max(float(way @ way), 1.0)
    return np.where(near, np.clip(share, 0, 1), 0).astype(np.float32)


def follow(frames: UInt8[np.ndarray, "t h w 3"]) -> list[Track]:
    """Objects over time: in each frame the nearest blob of the same colour goes on with a track."""
    tracks: list[list[Blob | None]] = []
    for index, frame in enumerate(frames):
        free = blobs(frame)
        for track in tracks:
            last = next(blob for blob in reversed(track) if blob is not None)
            best = min(free, key=partial(_jump, last), default=None)
            if best is not None and _jump(last, best) < _FURTHEST:
                free.remove(best)
                track.append(best)
            else:
                track.append(None)
        tracks += [[None] * index + [blob] for blob in free]
    kept = [Track(tuple(track)) for track in tracks]
    return [track for track in kept if len(track.seen) >= max(1, len(frames) // 2)]


def _jump(last: Blob, blob: Blob) -> float:
    same = 0.0 if last.colour is blob.colour else 0.15
    return float(np.hypot(last.x - blob.x, last.y - blob.y)) + same
