"""Which bucket a clip trains in: the rules of a config, and the two ways to apply them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from typing import Literal

import numpy as np

from kinema.manifest import Clip
from kinema.shapes import Bucket, resolution

MIN_AREA = 0.8
"""A clip serves a resolution from this share of its area on: enlarged by at most a quarter."""
TOLERANCE_S = 1e-3
"""Durations are rounded by containers: a clip may be this much too short."""


@dataclass(frozen=True, kw_only=True)
class BucketRule:
    """Clips of `resolution` with `frames` frames: how likely a clip is kept here, and how many make a batch.

    `keep_prob` 0 never uses the bucket. `batch_size` None is the config's batch size.
    """

    resolution: str
    frames: int
    keep_prob: float = 1.0
    batch_size: int | None = None

    def __post_init__(self) -> None:
        resolution(self.resolution)
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, got {self.frames}")
        if not 0 <= self.keep_prob <= 1:
            raise ValueError(f"keep_prob must be in [0, 1], got {self.keep_prob}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class Timed:
    """kinema's way: a clip serves `frames` frames when it lasts frames / fps seconds.

    A source slower than `fps` keeps its own rate, so no frame is shown twice. A clip that fails a
    `keep_prob` falls to fewer frames, then to the next lower resolution. `video_as_image` is the
    share of video clips that serve as one frame in an epoch; when it is above 0, so do all that are
    too short for the video buckets.

    A clip of weight w is offered w times an epoch on average. `image_weight` weighs images against
    videos; `source_weights` weighs sources by patterns of their path, such as "*/archive/*" (the first
    that matches counts).
    """

    kind: Literal["timed"] = "timed"
    fps: float = 8.0
    video_as_image: float = 0.0
    image_weight: float = 1.0
    source_weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"fps must be above 0, got {self.fps}")
        if not 0 <= self.video_as_image <= 1:
            raise ValueError(f"video_as_image must be in [0, 1], got {self.video_as_image}")
        if self.image_weight < 0:
            raise ValueError(f"image_weight must not be negative, got {self.image_weight}")
        if any(weight < 0 for weight in self.source_weights.values()):
            raise ValueError(f"source_weights must not be negative, got {dict(self.source_weights)}")

    def weight(self, clip: Clip) -> float:
        """How often an epoch offers the clip, on average."""
        matching = (w for pattern, w in self.source_weights.items() if fnmatch(clip.source_path, pattern))
        return next(matching, 1.0) * (self.image_weight if clip.frames == 1 else 1.0)


@dataclass(frozen=True, kw_only=True)
class Published:
    """The rules and the order of batches of Open-Sora 1.1, exactly.

    A clip serves `frames` frames when it has more than frames * frame_interval of its own, whatever
    its rate; a clip that fails a `keep_prob` falls to a lower resolution only, and an unfilled batch
    is dropped (`drop_last`) or filled up from the bucket's first clips.
    """

    kind: Literal["published"] = "published"
    frame_interval: int = 3
    drop_last: bool = True
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.frame_interval < 1:
            raise ValueError(f"frame_interval must be at least 1, got {self.frame_interval}")


Bucketing = Timed | Published


def source_group(clip: Clip, bucketing: Bucketing) -> str:
    """Which source a clip is counted for: the first pattern of `source_weights` that matches, else the name
    of its source's folder."""
    patterns = bucketing.source_weights if isinstance(bucketing, Timed) else ()
    found = next((pattern for pattern in patterns if fnmatch(clip.source_path, pattern)), None)
    return found or clip.source_path.replace("\\", "/").rpartition("/")[0].rpartition("/")[2] or "."


@dataclass(frozen=True, kw_only=True)
class ClipShape:
    """What the rules look at; one frame is an image. `duration_s` and `fps` are 0 where unknown."""

    frames: int
    height: int
    width: int
    duration_s: float = 0.0
    fps: float = 0.0

    @classmethod
    def of(cls, clip: Clip) -> ClipShape:
        return cls(
            frames=clip.frames,
            height=clip.height,
            width=clip.width,
            duration_s=clip.duration_s,
            fps=clip.fps,
        )

    @property
    def is_image(self) -> bool:
        return self.frames == 1


def bucket_rules(
    table: Mapping[str, Mapping[int, tuple[float, int | None]]],
) -> tuple[BucketRule, ...]:
    """Rules of a table {resolution: {frames: (keep_prob, batch_size)}}."""
    return tuple(
        BucketRule(resolution=name, frames=frames, keep_prob=keep_prob, batch_size=batch_size)
        for name, lengths in table.items()
        for frames, (keep_prob, batch_size) in lengths.items()
    )


@dataclass(frozen=True)
class Placed:
    """A rule with the bucket that it gives to one clip size; `position` numbers the rules in order."""

    rule: BucketRule
    bucket: Bucket
    position: int


class RuleTable:
    """A config's rules in the order in which a clip tries them: largest area first, then most frames."""

    def __init__(self, rules: tuple[BucketRule, ...]) -> None:
        self.ordered = tuple(
            sorted(rules, key=lambda rule: (-resolution(rule.resolution).area, -rule.frames))
        )
        self._most_frames = max(rule.frames for rule in rules) if rules else 0
        self._fitting: dict[tuple[int, int], tuple[Placed, ...]] = {}
        self._up_to: dict[tuple[int, int, int], tuple[tuple[Placed, ...], tuple[Placed, ...]]] = {}

    @cached_property
    def bucket_count(self) -> int:
        """How many buckets the rules span, aspect ratios included."""
        return sum(len(resolution(rule.resolution).sizes) for rule in self.ordered)

    def fitting(self, shape: ClipShape) -> tuple[Placed, ...]:
        """The rules for whose resolution the clip is large enough."""
        key = (shape.height, shape.width)
        if key not in self._fitting:
            self._fitting[key] = tuple(self._place(*key))
        return self._fitting[key]

    def up_to(self, shape: ClipShape, frames: int) -> tuple[tuple[Placed, ...], tuple[Placed, ...]]:
        """The rules in use that the clip is large enough for: those of 2 to `frames` frames, those of 1."""
        key = (shape.height, shape.width, min(frames, self._most_frames))
        if key not in self._up_to:
            used = [placed for placed in self.fitting(shape) if placed.rule.keep_prob > 0]
            videos = tuple(placed for placed in used if 1 < placed.rule.frames <= frames)
            self._up_to[key] = videos, tuple(placed for placed in used if placed.rule.frames == 1)
        return self._up_to[key]

    def _place(self, height: int, width: int) -> Iterator[Placed]:
        for position, rule in enumerate(self.ordered):
            table = resolution(rule.resolution)
            if height * width >= MIN_AREA * table.area:
                bucket = Bucket(rule.resolution, rule.frames, table.nearest(height / width))
                yield Placed(rule, bucket, position)


def effective_fps(shape: ClipShape, fps: float) -> float:
    """The target rate, or the source's own where that is lower."""
    return min(fps, shape.fps) if shape.fps > 0 else fps


def seconds_needed(shape: ClipShape, frames: int, fps: float) -> float:
    """How long a clip must be to give so many frames."""
    return frames / effective_fps(shape, fps)


def timed_candidates(
    shape: ClipShape, table: RuleTable, bucketing: Timed
) -> tuple[tuple[Placed, ...], tuple[Placed, ...]]:
    """The rules that a clip may use, in order: first as what it is, then as one frame of a video."""
    longest = (shape.duration_s + TOLERANCE_S) * effective_fps(shape, bucketing.fps)
    videos, stills = table.up_to(shape, 1 if shape.is_image else int(longest))
    if shape.is_image:
        return stills, ()
    return videos, stills if bucketing.video_as_image > 0 else ()


def reachable(shape: ClipShape, table: RuleTable, bucketing: Bucketing) -> list[Placed]:
    """Every rule that may take a clip of this shape in some epoch, in the order in which it tries them."""
    match bucketing:
        case Timed():
            lists = timed_candidates(shape, table, bucketing)
        case Published():
            placed = _published_candidates(shape, table, bucketing.frame_interval)
            lists = tuple(one for one in placed if one.rule.keep_prob > 0), ()
    return [placed for candidates in lists for placed in _until_certain(candidates)]


def _until_certain(candidates: tuple[Placed, ...]) -> Iterator[Placed]:
    """A rule that always keeps a clip leaves none to the next."""
    for placed in candidates:
        yield placed
        if placed.rule.keep_prob == 1:
            return


def published_row_seed(table: RuleTable, *, seed: int, epoch: int, row: int) -> int:
    """What seeds the draws of the dataset's row `row` in an epoch."""
    return seed + epoch + row * table.bucket_count


def assign_published(shape: ClipShape, table: RuleTable, frame_interval: int, row_seed: int) -> Placed | None:
    """The rule that Open-Sora 1.1 picks for a row; None drops the clip for this epoch."""
    for placed in _published_candidates(shape, table, frame_interval):
        keep_prob = placed.rule.keep_prob
        certain = keep_prob == 1 and not shape.is_image
        if certain or np.random.default_rng(row_seed + placed.position).random() < keep_prob:
            return placed
    return None


def _published_candidates(shape: ClipShape, table: RuleTable, frame_interval: int) -> Iterator[Placed]:
    """At most one rule per resolution: the longest that the clip has frames for."""
    seen: set[str] = set()
    for placed in table.fitting(shape):
        frames = placed.rule.frames
        fits = frames == 1 if shape.is_image else frames != 1 and shape.frames > frames * frame_interval
        if fits and placed.rule.resolution not in seen:
            seen.add(placed.rule.resolution)
            yield placed
