"""Near-duplicate clips: a perceptual hash of frames at fixed places, compared within and across sources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from jaxtyping import Float, Int16, UInt8, UInt64

from kinema.curate.sampling import Sampling, Score
from kinema.manifest import Clip


@dataclass(frozen=True, kw_only=True)
class DuplicateConfig:
    """Clips are near-duplicates when each of their `frames` hashes differs in at most `bits` of 63, their
    colours in no place by more than `colour` of 255, and their durations by at most `duration` of the
    longer. `fps` and `width` say what is hashed."""

    bits: int = 6
    colour: int = 16
    frames: int = 4
    duration: float = 0.1
    fps: float = 2.0
    width: int = 256

    def __post_init__(self) -> None:
        if not 0 <= self.bits < 32 or self.frames < 1 or not 0 <= self.duration <= 1:
            raise ValueError(f"got bits {self.bits}, frames {self.frames}, duration {self.duration}")


class HashScorer:
    """Column `frame_hashes`: for frames spread evenly over the clip, first and last too, the hexadecimal hash
    of the light, then the colours."""

    def __init__(self, config: DuplicateConfig | None = None) -> None:
        self.config = config or DuplicateConfig()
        self.sampling = Sampling(fps=self.config.fps, width=self.config.width)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w 3"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if not len(timestamps):
            return {"frame_hashes": None}
        chosen = np.linspace(0, len(frames) - 1, self.config.frames).round().astype(int)
        return {"frame_hashes": ",".join(_signature(frames[index]) for index in chosen)}


_LOW = 8
_SIDE = 32
_CELLS = 4


def _signature(frame: UInt8[np.ndarray, "h w 3"]) -> str:
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return f"{frame_hash(grey):016x}{frame_colours(frame).tobytes().hex()}"


def frame_colours(frame: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, " c"]:
    """Mean red and blue difference in 4 by 4 cells: the hash of the light cannot tell red from blue."""
    small = cv2.resize(frame, (_CELLS, _CELLS), interpolation=cv2.INTER_AREA)
    colours: UInt8[np.ndarray, " c"] = cv2.cvtColor(small, cv2.COLOR_RGB2YCrCb)[..., 1:].ravel()
    return colours


def frame_hash(frame: UInt8[np.ndarray, "h w"]) -> int:
    """Signs about the median of the 63 lowest cosine coefficients: light, size and compression change few."""
    small = cv2.resize(frame, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:_LOW, :_LOW].ravel()[1:]
    bits = low > np.median(low)
    return int("".join("1" if bit else "0" for bit in bits), 2)


def mark_duplicates(clips: Sequence[Clip], config: DuplicateConfig) -> list[Clip]:
    """Each clip with `near_duplicate_of` set to the best clip that it repeats, or None.

    Best is the largest picture, then the highest `technical_quality`, then the longest, then the lowest id,
    so that the order of sources does not matter.
    """
    original: dict[str, str | None] = {clip.clip_id: None for clip in clips}
    originals = _Originals(config)
    for clip in sorted(clips, key=_rank):
        signatures = Signatures.of(clip)
        if signatures.light.size and not signatures.blank:
            original[clip.clip_id] = originals.find(clip, signatures)
            if original[clip.clip_id] is None:
                originals.add(clip, signatures)
    return [replace(clip, near_duplicate_of=original[clip.clip_id]) for clip in clips]


class Signatures(NamedTuple):
    """The column `frame_hashes` of one clip, read."""

    light: UInt64[np.ndarray, " f"]
    colours: Int16[np.ndarray, "f c"]

    @classmethod
    def of(cls, clip: Clip) -> Signatures:
        parts = clip.frame_hashes.split(",") if clip.frame_hashes else []
        colours = [np.frombuffer(bytes.fromhex(part[16:]), np.uint8) for part in parts]
        return cls(np.array([int(part[:16], 16) for part in parts], np.uint64), np.array(colours, np.int16))

    @property
    def blank(self) -> bool:
        """A picture without structure has no bits: black clips are not duplicates of one another."""
        return bool((np.bitwise_count(self.light) < 8).any())

    def colour_distance(self, other: Signatures) -> int:
        return int(np.abs(self.colours - other.colours).max(initial=0))


class _Originals:
    """Clips that repeat no other, found by parts of their first hash.

    Hashes that differ in at most n bits agree wholly in one of n + 1 parts, so only those are compared.
    """

    def __init__(self, config: DuplicateConfig) -> None:
        self._config = config
        self._members: dict[tuple[int, int, int], list[tuple[Clip, Signatures]]] = {}

    def add(self, clip: Clip, signatures: Signatures) -> None:
        for key in self._keys(signatures):
            self._members.setdefault(key, []).append((clip, signatures))

    def find(self, clip: Clip, signatures: Signatures) -> str | None:
        """The best-ranked clip that this one repeats."""
        found: list[Clip] = []
        for key in self._keys(signatures):
            if candidates := self._members.get(key):
                light = np.stack([other.light for _, other in candidates])
                near = np.bitwise_count(light ^ signatures.light).max(axis=1) <= self._config.bits
                found += [
                    candidates[index][0]
                    for index in np.flatnonzero(near)
                    if self._same(clip, signatures, *candidates[index])
                ]
        return min(found, key=_rank).clip_id if found else None

    def _keys(self, signatures: Signatures) -> Iterator[tuple[int, int, int]]:
        parts = self._config.bits + 1
        first, width = int(signatures.light[0]), -(-64 // parts)
        for part in range(parts):
            yield len(signatures.light), part, first >> (part * width) & ((1 << width) - 1)

    def _same(self, clip: Clip, signatures: Signatures, other: Clip, others: Signatures) -> bool:
        longer = max(clip.duration_s, other.duration_s)
        return (
            abs(clip.duration_s - other.duration_s) <= self._config.duration * longer
            and signatures.colour_distance(others) <= self._config.colour
        )


def _rank(clip: Clip) -> tuple[float, float, float, str]:
    return (-clip.width * clip.height, -(clip.technical_quality or 0.0), -clip.duration_s, clip.clip_id)
