"""What a schedule of batches is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from kinema.manifest import Clip
from kinema.shapes import Bucket


@dataclass(frozen=True)
class Sample:
    """A clip's place in a batch; `seed` is the root of all that is random about it."""

    clip: Clip
    seed: int


@dataclass(frozen=True)
class PlannedBatch:
    """One rank's clips of one step, all in one bucket."""

    step: int
    epoch: int
    bucket: Bucket
    samples: tuple[Sample, ...]


class Schedule(Protocol):
    """An endless sequence of batches with random access."""

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PlannedBatch:
        """The batch of a rank in a step."""
        ...

    def shapes(self, step: int, world: int = 1) -> list[tuple[Bucket, int]]:
        """The bucket of each rank in a step and its number of clips, without saying which clips."""
        ...

    def members(self, epoch: int) -> dict[Bucket, list[Clip]]:
        """The clips that an epoch offers to each bucket."""
        ...
