"""How a dataset becomes batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from kinema.dataset.buckets import Bucketing, BucketRule, Published, Timed


def _default_buckets() -> tuple[BucketRule, ...]:
    return (BucketRule(resolution="64px", frames=8), BucketRule(resolution="64px", frames=1))


def _default_caption_weights() -> dict[str, float]:
    return {"image": 0.5, "video": 0.25, "merged": 0.25}


class Way(NamedTuple):
    """How a window is played: how many times as fast as the bucketing says, and in which direction."""

    speed: float
    backwards: bool


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Batches of a dataset.

    `batch_size` is for all ranks together and for buckets that name none of their own; every batch
    size is multiplied by `batch_multiplier` (so that tables made for one rank serve many).
    `caption_weights` weighs the kinds of captions that a clip has; a kind that is not listed weighs 1.
    `image_fps` is the rate that the network is told for an image. `cache_mb` keeps decoded clips
    of small datasets in memory; `workers` threads read ahead by `prefetch` batches. Neither changes
    what a batch holds.

    `windows` is how many windows in time a clip has: 0 takes any, n one of n, evenly spread (1 is
    the middle). Latents are only cached of a number of windows.

    For networks that shall know slow and fast, and both directions: a window is drawn at one of `speeds`
    times the bucketing's rate (the network is told that), and half of them are played `backwards`.
    """

    buckets: tuple[BucketRule, ...] = field(default_factory=_default_buckets)
    bucketing: Bucketing = field(default_factory=Timed)
    batch_size: int = 8
    batch_multiplier: int = 1
    seed: int = 42
    image_fps: float = 120.0
    flip: bool = False
    windows: int = 0
    speeds: tuple[float, ...] = (1.0,)
    backwards: bool = False
    caption_weights: Mapping[str, float] = field(default_factory=_default_caption_weights)
    cache_mb: int = 512
    workers: int = 2
    prefetch: int = 2

    def __post_init__(self) -> None:
        if not self.buckets:
            raise ValueError("buckets must name at least one bucket")
        if len({(rule.resolution, rule.frames) for rule in self.buckets}) < len(self.buckets):
            raise ValueError("buckets must not name a resolution and a number of frames twice")
        for name in ("batch_size", "batch_multiplier", "image_fps", "prefetch"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        for name in ("cache_mb", "workers", "windows"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not self.speeds or min(self.speeds) < 1:
            raise ValueError(f"speeds must be at least 1, so that a clip is long enough, got {self.speeds}")
        if isinstance(self.bucketing, Published) and self.speeds != (1.0,):
            raise ValueError("speeds are for bucketing of kind timed; published has frame_interval")
        if any(weight < 0 for weight in self.caption_weights.values()):
            raise ValueError(f"caption_weights must not be negative, got {dict(self.caption_weights)}")

    def batch_size_of(self, rule: BucketRule) -> int:
        """Clips in one batch of this bucket, all ranks together."""
        return (rule.batch_size or self.batch_size) * self.batch_multiplier

    @property
    def ways(self) -> tuple[Way, ...]:
        """How a window may be played."""
        directions = (False, True) if self.backwards else (False,)
        return tuple(Way(speed, backwards) for speed in self.speeds for backwards in directions)
