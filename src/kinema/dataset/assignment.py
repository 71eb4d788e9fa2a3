"""Which bucket each clip takes in an epoch, drawn for all clips at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kinema.dataset.buckets import ClipShape, RuleTable, Timed, timed_candidates
from kinema.dataset.config import DataConfig
from kinema.dataset.streams import stream_seed, unit_draws
from kinema.manifest import Clip


class EpochDraws:
    """The bucket of each clip in each epoch; `buckets` are all that any clip could take."""

    def __init__(self, clips: Sequence[Clip], config: DataConfig, bucketing: Timed) -> None:
        self._seed = config.seed
        self._bucketing = bucketing
        self._keys = np.array([stream_seed(clip.clip_id) for clip in clips], dtype=np.uint64)
        table = RuleTable(config.buckets)
        choices = [timed_candidates(ClipShape.of(clip), table, bucketing) for clip in clips]
        rules = {placed.bucket: placed.rule for videos, stills in choices for placed in videos + stills}
        self.buckets = sorted(rules)
        self.rules_of_buckets = [rules[bucket] for bucket in self.buckets]
        self._keep_prob = np.array([*(rule.keep_prob for rule in self.rules_of_buckets), 0.0])
        numbers = {bucket: position for position, bucket in enumerate(self.buckets)}
        self._videos = _padded([[numbers[one.bucket] for one in videos] for videos, _ in choices])
        self._stills = _padded([[numbers[one.bucket] for one in stills] for _, stills in choices])
        self._weights = np.array([bucketing.weight(clip) for clip in clips], dtype=np.float64)
        self._same_every_epoch = bool(
            (self._keep_prob[:-1] == 1).all()
            and (self._weights % 1 == 0).all()
            and bucketing.video_as_image in {0, 1}
        )
        self._counts = lru_cache(maxsize=8)(self._compute_counts)
        self._chosen = lru_cache(maxsize=8)(self._compute_chosen)

    def chosen(self, epoch: int) -> NDArray[np.int64]:
        """The position in `buckets` of each clip's bucket, -1 for a clip that sits the epoch out."""
        return self._chosen(0 if self._same_every_epoch else epoch)

    @property
    def usable(self) -> bool:
        """Whether any clip can ever be offered to a bucket."""
        placed = (self._videos >= 0).any(axis=1) | (self._stills >= 0).any(axis=1)
        return bool((placed & (self._weights > 0)).any())

    def members(self, epoch: int, position: int) -> NDArray[np.int64]:
        """The clips of one bucket, each as often as its weight says."""
        found = np.flatnonzero(self.chosen(epoch) == position)
        return np.repeat(found, self._offers(epoch)[found])

    def counts(self, epoch: int) -> list[int]:
        """Clips offered per bucket."""
        return self._counts(0 if self._same_every_epoch else epoch)

    def _compute_counts(self, epoch: int) -> list[int]:
        chosen = self.chosen(epoch)
        taken = chosen >= 0
        offers = self._offers(epoch)[taken]
        counted = np.bincount(chosen[taken], weights=offers, minlength=len(self.buckets))
        return [round(count) for count in counted.tolist()]

    def _offers(self, epoch: int) -> NDArray[np.int64]:
        """How often the epoch offers each clip: its weight, rounded up or down by a draw."""
        whole = np.floor(self._weights)
        extra = unit_draws(self._keys, self._seed, epoch, "offer") < self._weights - whole
        return (whole + extra).astype(np.int64)

    def _compute_chosen(self, epoch: int) -> NDArray[np.int64]:
        stills_first = unit_draws(self._keys, self._seed, epoch, "still") < self._bucketing.video_as_image
        as_video = self._first_kept(self._videos, epoch)
        as_still = self._first_kept(self._stills, epoch)
        first = np.where(stills_first, as_still, as_video)
        return np.where(first >= 0, first, np.where(stills_first, as_video, as_still))

    def _first_kept(self, candidates: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        taken = np.full(len(self._keys), -1, dtype=np.int64)
        for place in range(candidates.shape[1]):
            draws = unit_draws(self._keys, self._seed, epoch, "keep", place)
            kept = (taken < 0) & (draws < self._keep_prob[candidates[:, place]])
            taken[kept] = candidates[kept, place]
        return taken


def _padded(rows: list[list[int]]) -> NDArray[np.int64]:
    """Rows of one length, filled with -1: the last entry of the keep probabilities, which is 0."""
    table = np.full((len(rows), max(map(len, rows), default=0)), -1, dtype=np.int64)
    for index, row in enumerate(rows):
        table[index, : len(row)] = row
    return table
