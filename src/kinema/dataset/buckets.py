"""Which bucket a clip trains in: the rules of a config, and the two ways to apply them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from kinema.manifest import Clip
from kinema.shapes import Bucket, Resolution, resolution

MIN_AREA = 0.8
"""A clip serves a resolution from this share of its area on: enlarged by at most a quarter."""
_TOLERANCE_S = 1e-3


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
    """

    fps: float = 8.0
    video_as_image: float = 0.0

    def __post_init__(self) -> None:
        if self.fps <= 0:
            raise ValueError(f"fps must be above 0, got {self.fps}")
        if not 0 <= self.video_as_image <= 1:
            raise ValueError(f"video_as_image must be in [0, 1], got {self.video_as_image}")


@dataclass(frozen=True, kw_only=True)
class Published:
    """The rules and the order of batches of Open-Sora 1.1, exactly.

    A clip serves `frames` frames when it has more than frames * frame_interval of its own, whatever
    its rate; a clip that fails a `keep_prob` falls to a lower resolution only, and an unfilled batch
    is dropped (`drop_last`) or filled up from the bucket's first clips.
    """

    frame_interval: int = 3
    drop_last: bool = True
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.frame_interval < 1:
            raise ValueError(f"frame_interval must be at least 1, got {self.frame_interval}")


Bucketing = Timed | Published


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

    def fills(self, area: Resolution) -> bool:
        """Large enough for this resolution."""
        return self.height * self.width >= MIN_AREA * area.area

    def bucket(self, rule: BucketRule) -> Bucket:
        """The rule's bucket with the aspect ratio closest to the clip's."""
        key = resolution(rule.resolution).nearest(self.height / self.width)
        return Bucket(rule.resolution, rule.frames, key)


def bucket_rules(
    table: Mapping[str, Mapping[int, tuple[float, int | None]]],
) -> tuple[BucketRule, ...]:
    """Rules of a table {resolution: {frames: (keep_prob, batch_size)}}."""
    return tuple(
        BucketRule(resolution=name, frames=frames, keep_prob=keep_prob, batch_size=batch_size)
        for name, lengths in table.items()
        for frames, (keep_prob, batch_size) in lengths.items()
    )


def ordered_rules(rules: tuple[BucketRule, ...]) -> tuple[BucketRule, ...]:
    """Largest area first, then most frames first: the order in which a clip tries them."""
    return tuple(sorted(rules, key=lambda rule: (-resolution(rule.resolution).area, -rule.frames)))


def bucket_count(rules: tuple[BucketRule, ...]) -> int:
    """How many buckets the rules span, aspect ratios included."""
    return sum(len(resolution(rule.resolution).sizes) for rule in rules)


def effective_fps(shape: ClipShape, fps: float) -> float:
    """The target rate, or the source's own where that is lower."""
    return min(fps, shape.fps) if shape.fps > 0 else fps


def seconds_needed(shape: ClipShape, frames: int, fps: float) -> float:
    """How long a clip must be to give so many frames."""
    return frames / effective_fps(shape, fps)


def timed_candidates(
    shape: ClipShape, rules: tuple[BucketRule, ...], bucketing: Timed
) -> tuple[list[BucketRule], list[BucketRule]]:
    """The rules that a clip may use, in order: first as what it is, then as one frame of a video."""
    large_enough = [
        rule
        for rule in ordered_rules(rules)
        if rule.keep_prob > 0 and shape.fills(resolution(rule.resolution))
    ]
    stills = [rule for rule in large_enough if rule.frames == 1]
    if shape.is_image:
        return stills, []
    videos = [
        rule
        for rule in large_enough
        if rule.frames > 1
        and shape.duration_s + _TOLERANCE_S >= seconds_needed(shape, rule.frames, bucketing.fps)
    ]
    return videos, stills if bucketing.video_as_image > 0 else []


def published_row_seed(rules: tuple[BucketRule, ...], *, seed: int, epoch: int, row: int) -> int:
    """What seeds the draws of the dataset's row `row` in an epoch."""
    return seed + epoch + row * bucket_count(rules)


def assign_published(
    shape: ClipShape, rules: tuple[BucketRule, ...], frame_interval: int, row_seed: int
) -> BucketRule | None:
    """The rule that Open-Sora 1.1 picks for a row; None drops the clip for this epoch."""
    for rule, position in _published_candidates(shape, rules, frame_interval):
        certain = rule.keep_prob == 1 and not shape.is_image
        if certain or np.random.default_rng(row_seed + position).random() < rule.keep_prob:
            return rule
    return None


def _published_candidates(
    shape: ClipShape, rules: tuple[BucketRule, ...], frame_interval: int
) -> Iterator[tuple[BucketRule, int]]:
    """One rule per resolution that the clip fills, with its position among all rules."""
    seen: set[str] = set()
    for position, rule in enumerate(ordered_rules(rules)):
        if rule.resolution in seen or not shape.fills(resolution(rule.resolution)):
            continue
        if shape.is_image:
            fits = rule.frames == 1
        else:
            fits = rule.frames != 1 and shape.frames > rule.frames * frame_interval
        if fits:
            seen.add(rule.resolution)
            yield rule, position
