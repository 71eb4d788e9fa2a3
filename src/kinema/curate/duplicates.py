"""Near-duplicate clips: a perceptual hash of frames at fixed places, compared within and across sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt64

from kinema.curate.sampling import Sampling, Score
from kinema.manifest import Clip


@dataclass(frozen=True, kw_only=True)
class DuplicateConfig:
    """Clips are near-duplicates when each of their `frames` hashes differs in at most `bits` of 63, and
    their durations by at most `duration` of the longer. `fps` and `width` say what is hashed."""

    bits: int = 6
    frames: int = 4
    duration: float = 0.1
    fps: float = 2.0
    width: int = 160

    def __post_init__(self) -> None:
        if not 0 <= self.bits < 32 or self.frames < 1 or not 0 <= self.duration <= 1:
            raise ValueError(f"got bits {self.bits}, frames {self.frames}, duration {self.duration}")


class HashScorer:
    """Column `frame_hashes`: hexadecimal hashes of frames spread evenly over the clip, first and last too."""

    def __init__(self, config: DuplicateConfig | None = None) -> None:
        self.config = config or DuplicateConfig()
        self.sampling = Sampling(fps=self.config.fps, width=self.config.width, grey=True)

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w 1"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        if not len(timestamps):
            return {"frame_hashes": None}
        chosen = np.linspace(0, len(frames) - 1, self.config.frames).round().astype(int)
        return {"frame_hashes": ",".join(f"{frame_hash(frames[index, ..., 0]):016x}" for index in chosen)}


_LOW = 8
_SIDE = 32


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
    ranked = sorted(clips, key=_rank)
    hashes = [_hashes(clip) for clip in ranked]
    original: dict[str, str | None] = {clip.clip_id: None for clip in clips}
    by_count: dict[int, tuple[list[int], list[UInt64[np.ndarray, " f"]]]] = {}
    for index, (clip, row) in enumerate(zip(ranked, hashes, strict=True)):
        if not row.size or _blank(row):
            continue
        members, table = by_count.setdefault(len(row), ([], []))
        found = _match(clip, row, [ranked[member] for member in members], table, config)
        if found is None:
            members.append(index)
            table.append(row)
        else:
            original[clip.clip_id] = found
    return [replace(clip, near_duplicate_of=original[clip.clip_id]) for clip in clips]


def _match(
    clip: Clip,
    row: UInt64[np.ndarray, " f"],
    members: Sequence[Clip],
    table: Sequence[UInt64[np.ndarray, " f"]],
    config: DuplicateConfig,
) -> str | None:
    if not table:
        return None
    apart = np.bitwise_count(np.stack(table) ^ row).max(axis=1)
    for other, distance in zip(members, apart, strict=True):
        if distance > config.bits:
            continue
        longer = max(clip.duration_s, other.duration_s)
        if abs(clip.duration_s - other.duration_s) <= config.duration * longer:
            return other.clip_id
    return None


def _rank(clip: Clip) -> tuple[float, float, float, str]:
    return (-clip.width * clip.height, -(clip.technical_quality or 0.0), -clip.duration_s, clip.clip_id)


def _hashes(clip: Clip) -> UInt64[np.ndarray, " f"]:
    parts: Iterable[str] = clip.frame_hashes.split(",") if clip.frame_hashes else ()
    return np.array([int(part, 16) for part in parts], np.uint64)


def _blank(row: UInt64[np.ndarray, " f"]) -> bool:
    """A picture without structure has no bits: black clips are not duplicates of one another."""
    return bool((np.bitwise_count(row) < 8).any())
