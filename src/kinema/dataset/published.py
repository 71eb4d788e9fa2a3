"""The order of batches of Open-Sora 1.1."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import cycle, islice
from typing import TypeVar

import torch

from kinema.dataset.buckets import (
    BucketRule,
    ClipShape,
    Published,
    RuleTable,
    assign_published,
    published_row_seed,
)
from kinema.dataset.config import DataConfig
from kinema.dataset.schedule import PlannedBatch, Sample
from kinema.dataset.streams import stream_seed
from kinema.errors import DatasetError
from kinema.manifest import Clip
from kinema.shapes import Bucket

Item = TypeVar("Item")


class PublishedSchedule:
    """The order of batches of Open-Sora 1.1; ranks of one step may be in different buckets.

    A clip's row is its place in `clips`.
    """

    _EMPTY_EPOCHS = 100

    def __init__(self, clips: Sequence[Clip], config: DataConfig, bucketing: Published) -> None:
        self._config = config
        self._bucketing = bucketing
        self._clips = list(clips)
        self._shapes = [ClipShape.of(clip) for clip in clips]
        self._rows = lru_cache(maxsize=4)(self._compute_rows)
        self._batches = lru_cache(maxsize=4)(self._compute_batches)
        self._table = RuleTable(config.buckets)
        self._steps: dict[int, list[int]] = {}

    def batch(self, step: int, rank: int = 0, world: int = 1) -> PlannedBatch:
        epoch, local = self._locate(step, world)
        bucket, rows = self.epoch_batches(epoch, rank, world)[local]
        clips = [self._clips[row] for row in rows]
        samples = tuple(
            Sample(clip, stream_seed(self._config.seed, step, clip.clip_id, place))
            for place, clip in enumerate(clips)
        )
        return PlannedBatch(step, epoch, bucket, samples)

    def shapes(self, step: int, world: int = 1) -> list[tuple[Bucket, int]]:
        epoch, local = self._locate(step, world)
        batches = self._batches(epoch, world)[local * world : (local + 1) * world]
        return [(bucket, len(rows)) for bucket, rows in batches]

    def members(self, epoch: int) -> dict[Bucket, list[Clip]]:
        return {bucket: [self._clips[row] for row in rows] for bucket, (_, rows) in self._rows(epoch).items()}

    def epoch_batches(self, epoch: int, rank: int, world: int) -> list[tuple[Bucket, list[int]]]:
        """A rank's batches of one epoch, as rows."""
        return self._batches(epoch, world)[rank::world]

    def _locate(self, step: int, world: int) -> tuple[int, int]:
        ends = self._steps.setdefault(world, [])
        while not ends or ends[-1] <= step:
            if len(ends) >= self._EMPTY_EPOCHS and ends[-self._EMPTY_EPOCHS] == ends[-1]:
                raise DatasetError(
                    f"{self._EMPTY_EPOCHS} epochs filled no batch; lower the batch sizes, "
                    "or use kinema's own bucketing, which carries clips over"
                )
            count = len(self._batches(len(ends), world)) // world
            ends.append((ends[-1] if ends else 0) + count)
        epoch = bisect_right(ends, step)
        return epoch, step - (ends[epoch - 1] if epoch else 0)

    def _compute_rows(self, epoch: int) -> dict[Bucket, tuple[BucketRule, list[int]]]:
        found: dict[Bucket, tuple[BucketRule, list[int]]] = {}
        for row, shape in enumerate(self._shapes):
            seed = published_row_seed(self._table, seed=self._config.seed, epoch=epoch, row=row)
            placed = assign_published(shape, self._table, self._bucketing.frame_interval, seed)
            if placed is not None:
                found.setdefault(placed.bucket, (placed.rule, []))[1].append(row)
        return found

    def _compute_batches(self, epoch: int, world: int) -> list[tuple[Bucket, list[int]]]:
        """All batches of the epoch in the order of access; a multiple of `world`."""
        generator = torch.Generator().manual_seed(self._config.seed + epoch)
        batches: dict[Bucket, list[list[int]]] = {}
        for bucket, (rule, rows) in self._rows(epoch).items():
            size = self._config.batch_size_of(rule)
            whole = _whole_batches(rows, size, drop_last=self._bucketing.drop_last)
            shuffled = [whole[place] for place in self._permutation(len(whole), generator)]
            batches[bucket] = [shuffled[at : at + size] for at in range(0, len(shuffled), size)]
        access = [bucket for bucket, cut in batches.items() for _ in cut]
        access = [access[place] for place in self._permutation(len(access), generator)]
        access = _whole_batches(access, world, drop_last=self._bucketing.drop_last)
        return list(_in_turn(access, batches))

    def _permutation(self, count: int, generator: torch.Generator) -> list[int]:
        if not self._bucketing.shuffle:
            return list(range(count))
        places: list[int] = torch.randperm(count, generator=generator).tolist()
        return places


def _whole_batches(items: list[Item], size: int, *, drop_last: bool) -> list[Item]:
    """As many items as fill whole batches: the rest dropped, or filled up from the first ones."""
    rest = len(items) % size
    if rest == 0:
        return items
    return items[: len(items) - rest] if drop_last else items + list(islice(cycle(items), size - rest))


def _in_turn(
    access: list[Bucket], batches: dict[Bucket, list[list[int]]]
) -> Iterator[tuple[Bucket, list[int]]]:
    used: Counter[Bucket] = Counter()
    for bucket in access:
        yield bucket, batches[bucket][used[bucket] % len(batches[bucket])]
        used[bucket] += 1
