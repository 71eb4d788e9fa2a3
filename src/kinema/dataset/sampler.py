"""Which clips train in which step: a pure function of the dataset, the config, step, rank and world size."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kinema.dataset.assignment import EpochDraws
from kinema.dataset.buckets import Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.published import PublishedSchedule
from kinema.dataset.schedule import PlannedBatch, Sample, Schedule
from kinema.dataset.streams import stream, stream_seed
from kinema.errors import ConfigError, DatasetError
from kinema.manifest import Clip
from kinema.shapes import Bucket


def build_schedule(clips: Sequence[Clip], config: DataConfig) -> Schedule:
    """The schedule that the config's bucketing asks for. Raises `DatasetError` when no clip fits a bucket."""
    match config.bucketing:
        case Timed():
            return TimedSchedule(clips, config, config.bucketing)
        case Published():
            return PublishedSchedule(clips, config, config.bucketing)


class TimedSchedule:
    """Every bucket is an endless stream: its clips of epoch 0 in random order, then of epoch 1, and so on.

    Batches are cut from the streams one after the other, so that what does not fill a batch goes on
    into the next epoch, and a bucket with fewer clips than a batch repeats them evenly. An epoch's steps
    are the batches that it completes, in random order. All ranks share a step's bucket.
    """

    def __init__(self, clips: Sequence[Clip], config: DataConfig, bucketing: Timed) -> None:
        self._config = config
        self._clips = sorted(clips, key=lambda clip: clip.clip_id)
        self._draws = EpochDraws(self._clips, config, bucketing)
        self._batch_sizes = np.array([config.batch_size_of(rule) for rule in self._draws.rules_of_buckets])
        if not self._draws.usable:
            raise DatasetError(
                "no clip fits any bucket; run kinema plan to see why, then choose smaller or shorter buckets"
            )
        self._offered: list[list[int]] = []
        self._steps: list[int] = []
        self._order = lru_cache(maxsize=64)(self._compute_order)
        self._permuted = lru_cache(maxsize=256)(self._compute_permuted)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PlannedBatch:
        if step < 0 or not 0 <= rank < world:
            raise ValueError(f"expected step >= 0 and 0 <= rank < world, got {step}, {rank}, {world}")
        self._check_world(world)
        epoch, position, number = self._place(step)
        size = int(self._batch_sizes[position])
        samples = self._samples(step, position, number)
        share = size // world
        mine = tuple(samples[rank * share : (rank + 1) * share])
        return PlannedBatch(step, epoch, self._draws.buckets[position], mine)

    def shapes(self, step: int, world: int = 1) -> list[tuple[Bucket, int]]:
        self._check_world(world)
        _, position, _ = self._place(step)
        return [(self._draws.buckets[position], int(self._batch_sizes[position]) // world)] * world

    def members(self, epoch: int) -> dict[Bucket, list[Clip]]:
        return {
            bucket: [self._clips[index] for index in self._draws.members(epoch, position)]
            for position, bucket in enumerate(self._draws.buckets)
        }

    def _place(self, step: int) -> tuple[int, int, int]:
        """The epoch of a step, its bucket, and the number of the batch in the bucket's stream."""
        epoch = self._epoch_of(step)
        first = self._steps[epoch - 1] if epoch else 0
        return epoch, *self._order(epoch)[step - first]

    def _check_world(self, world: int) -> None:
        uneven = np.flatnonzero(self._batch_sizes % world)
        if len(uneven):
            raise ConfigError(
                f"batch size {self._batch_sizes[uneven[0]]} of bucket {self._draws.buckets[uneven[0]]} "
                f"does not divide among {world} ranks; set data.batch_multiplier={world}, or choose another"
            )

    def _samples(self, step: int, position: int, number: int) -> list[Sample]:
        size = int(self._batch_sizes[position])
        clips = [self._clip_at(position, place) for place in range(number * size, (number + 1) * size)]
        seen: Counter[str] = Counter()
        samples = []
        for clip in clips:
            samples.append(
                Sample(clip, stream_seed(self._config.seed, step, clip.clip_id, seen[clip.clip_id]))
            )
            seen[clip.clip_id] += 1
        return samples

    def _clip_at(self, position: int, place: int) -> Clip:
        epoch = bisect_right(self._offered, place, key=lambda offered: offered[position])
        before = self._offered[epoch - 1][position] if epoch else 0
        return self._clips[int(self._permuted(epoch, position)[place - before])]

    def _epoch_of(self, step: int) -> int:
        while not self._steps or self._steps[-1] <= step:
            self._extend()
        return bisect_right(self._steps, step)

    def _extend(self) -> None:
        """Count one more epoch: clips offered to each bucket and batches completed, both since the start."""
        counts = np.array(self._draws.counts(len(self._steps)))
        if self._offered:
            counts += np.array(self._offered[-1])
        self._offered.append(counts.tolist())
        self._steps.append(int((counts // self._batch_sizes).sum()))

    def _compute_order(self, epoch: int) -> list[tuple[int, int]]:
        """(bucket, number of the batch in the bucket's stream) of the epoch's steps."""
        last = np.array(self._offered[epoch]) // self._batch_sizes
        first = np.array(self._offered[epoch - 1]) // self._batch_sizes if epoch else np.zeros_like(last)
        batches = [
            (position, number)
            for position, (begin, end) in enumerate(zip(first.tolist(), last.tolist(), strict=True))
            for number in range(begin, end)
        ]
        order = stream(self._config.seed, "order", epoch).permutation(len(batches))
        return [batches[index] for index in order]

    def _compute_permuted(self, epoch: int, position: int) -> NDArray[np.int64]:
        members = self._draws.members(epoch, position)
        bucket = str(self._draws.buckets[position])
        return stream(self._config.seed, "clips", epoch, bucket).permutation(members)
