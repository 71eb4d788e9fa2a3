"""Batches of pixels and captions, read ahead in threads, the same in every run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.dataset.buckets import source_group
from kinema.dataset.config import DataConfig
from kinema.dataset.latents import StoredEncodings, latents_key
from kinema.dataset.sampler import build_schedule
from kinema.dataset.schedule import PlannedBatch, Sample, Schedule
from kinema.dataset.store import kept_clips, source_file
from kinema.dataset.streams import stream
from kinema.dataset.windows import Window, draw_window, grid_size, grid_times
from kinema.encoders.protocols import EncodedText
from kinema.errors import DatasetError, DecodeError
from kinema.manifest import Clip
from kinema.shapes import Bucket, Size
from kinema.video.reader import read_frames
from kinema.video.transforms import cover, resize_crop, to_video

_SCORES = ("motion_score", "elevation", "azimuth", "duration_s")
"""What networks may be told of a clip."""


@dataclass(frozen=True)
class Batch:
    """One rank's share of a step. `seeds` root all that is random about each clip in this step; a clip
    that is in the batch twice has two seeds, and another world size gives the same ones.

    `moments` (what latents are drawn from) and `text` are there when they were read from a cache; `video`
    then holds no frames. `keys` name the clips' latents in a cache. `scores` are the clips' own, by the
    manifest's name; NaN where a clip has none. `sources` are the groups that the clips are counted for.
    """

    video: Float[Tensor, "b c t h w"]
    captions: list[str]
    fps: Float[Tensor, " b"]
    bucket: Bucket
    clip_ids: list[str]
    step: int
    epoch: int
    seeds: list[int]
    keys: tuple[str, ...] = ()
    moments: Float[Tensor, "b c2 t2 h2 w2"] | None = None
    text: EncodedText | None = None
    scores: Mapping[str, Float[Tensor, " b"]] = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def row(self, number: int) -> Batch:
        """One clip of it, whose frames are there, by itself."""
        one = slice(number, number + 1)
        return replace(
            self,
            video=self.video[one],
            captions=self.captions[one],
            fps=self.fps[one],
            clip_ids=self.clip_ids[one],
            seeds=self.seeds[one],
            keys=self.keys[one],
            moments=None,
            text=None,
            scores={name: values[one] for name, values in self.scores.items()},
            sources=self.sources[one],
        )

    def to(self, device: torch.device | str) -> Batch:
        return replace(
            self,
            video=self.video.to(device, non_blocking=True),
            fps=self.fps.to(device, non_blocking=True),
            moments=None if self.moments is None else self.moments.to(device, non_blocking=True),
            text=None if self.text is None else EncodedText(*(part.to(device) for part in self.text)),
            scores={name: values.to(device, non_blocking=True) for name, values in self.scores.items()},
        )


def iterate_batches(  # noqa: PLR0913 - where, how, which place, and what need not be read
    dataset: Path,
    config: DataConfig,
    start_step: int = 0,
    rank: int = 0,
    world: int = 1,
    *,
    stored: StoredEncodings | None = None,
) -> Generator[Batch, None, None]:
    """Batches from `start_step` on, without end; `close()` ends the threads that read ahead.

    What `stored` holds is read instead of decoded. Raises `DatasetError` when nothing can be trained on, and,
    when it gets there, for a clip that cannot be read.
    """
    schedule = build_schedule(kept_clips(dataset), config)
    schedule.batch(start_step, rank, world)
    reader = ClipReader(dataset, config, schedule, stored or StoredEncodings())
    return _read_ahead(reader, schedule, config, (start_step, rank, world))


def _read_ahead(
    reader: ClipReader, schedule: Schedule, config: DataConfig, place: tuple[int, int, int]
) -> Generator[Batch, None, None]:
    start_step, rank, world = place
    planned = (schedule.batch(step, rank, world) for step in count(start_step))
    if config.workers == 0:
        for batch in planned:
            yield _collate(batch, [read() for read in reader.reads(batch)], reader)
        return
    pool = ThreadPoolExecutor(config.workers, thread_name_prefix="kinema-loader")
    try:
        waiting: deque[tuple[PlannedBatch, list[Future[Item]]]] = deque()
        for batch in planned:
            waiting.append((batch, [pool.submit(read) for read in reader.reads(batch)]))
            if len(waiting) > config.prefetch:
                ready, futures = waiting.popleft()
                yield _collate(ready, [future.result() for future in futures], reader)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a sample's seed decides: nothing was read yet."""

    caption: str
    window: Window
    flipped: bool
    key: str


@dataclass(frozen=True)
class Item:
    """One clip as the network sees it: its frames, or what a cache holds of them."""

    choice: Choice
    frames: UInt8[np.ndarray, "t h w c"] | None = None
    moments: Float[Tensor, "c2 t2 h2 w2"] | None = None


def _collate(batch: PlannedBatch, items: list[Item], reader: ClipReader) -> Batch:
    frames = [to_video(item.frames) for item in items if item.frames is not None]
    moments = [item.moments for item in items if item.moments is not None]
    size = batch.bucket.size
    captions = [item.choice.caption for item in items]
    return Batch(
        video=torch.stack(frames) if frames else torch.empty(len(items), 3, 0, size.height, size.width),
        captions=captions,
        fps=torch.tensor([item.choice.window.fps for item in items], dtype=torch.float32),
        bucket=batch.bucket,
        clip_ids=[sample.clip.clip_id for sample in batch.samples],
        step=batch.step,
        epoch=batch.epoch,
        seeds=[sample.seed for sample in batch.samples],
        keys=tuple(item.choice.key for item in items),
        moments=torch.stack(moments) if moments else None,
        text=reader.stored.text_of(captions),
        scores={name: _scores(batch, name) for name in _SCORES},
        sources=tuple(reader.source_of(sample.clip) for sample in batch.samples),
    )


def _scores(batch: PlannedBatch, name: str) -> Float[Tensor, " b"]:
    values = [getattr(sample.clip, name, None) for sample in batch.samples]
    return torch.tensor([float("nan") if value is None else value for value in values])


class ClipReader:
    """Reads samples; keeps decoded clips when those of the whole dataset fit in the config's `cache_mb`."""

    def __init__(
        self, dataset: Path, config: DataConfig, schedule: Schedule, stored: StoredEncodings
    ) -> None:
        self.stored = stored
        self._dataset = dataset
        self._config = config
        self._cached: dict[tuple[str, Size], UInt8[np.ndarray, "t h w c"]] = {}
        self._locks: dict[tuple[str, Size], Lock] = {}
        self._lock = Lock()
        self._free_bytes = config.cache_mb << 20
        needed = sum(
            _decoded_bytes(clip, bucket.size)
            for bucket, clips in schedule.members(0).items()
            for clip in clips
        )
        self._caches = needed <= self._free_bytes

    def source_of(self, clip: Clip) -> str:
        """The group that a clip is counted for."""
        return source_group(clip, self._config.bucketing)

    def reads(self, batch: PlannedBatch) -> list[Callable[[], Item]]:
        """What reads each sample: from the cache where it holds the whole batch, else from the footage."""
        choices = [self.choose(sample, batch.bucket) for sample in batch.samples]
        if self.stored.holds([choice.key for choice in choices]):
            return [partial(self._from_cache, choice) for choice in choices]
        return [
            partial(self._from_footage, sample.clip, choice, batch.bucket.size)
            for sample, choice in zip(batch.samples, choices, strict=True)
        ]

    def choose(self, sample: Sample, bucket: Bucket) -> Choice:
        """Caption, window and flip are drawn from the sample's seed, in this order."""
        generator = stream(sample.seed, "sample")
        caption = draw_caption(sample.clip, self._config.caption_weights, generator)
        window = draw_window(sample.clip, bucket.frames, self._config, generator)
        flipped = bool(generator.random() < 0.5 and self._config.flip)
        key = latents_key(sample.clip, bucket.size, window.places, flipped=flipped)
        return Choice(caption=caption, window=window, flipped=flipped, key=key)

    def _from_cache(self, choice: Choice) -> Item:
        return Item(choice, moments=self.stored.moments(choice.key))

    def _from_footage(self, clip: Clip, choice: Choice, size: Size) -> Item:
        frames = self._frames(clip, choice.window.places, size)
        return Item(choice, frames[:, :, ::-1] if choice.flipped else frames)

    def _frames(self, clip: Clip, places: np.ndarray, size: Size) -> UInt8[np.ndarray, "t h w c"]:
        key = (clip.clip_id, size)
        if not self._caches:
            return self._decode(clip, places, size)
        with self._lock:
            lock = self._locks.setdefault(key, Lock())
        with lock:
            if key not in self._cached and not self._keep(key, clip):
                return self._decode(clip, places, size)
        frames: UInt8[np.ndarray, "t h w c"] = self._cached[key][places]
        return frames

    def _keep(self, key: tuple[str, Size], clip: Clip) -> bool:
        needed = _decoded_bytes(clip, key[1])
        with self._lock:
            if needed > self._free_bytes:
                return False
            self._free_bytes -= needed
        self._cached[key] = self._decode(clip, np.arange(grid_size(clip)), key[1])
        return True

    def _decode(self, clip: Clip, places: np.ndarray, size: Size) -> UInt8[np.ndarray, "t h w c"]:
        try:
            return clip_frames(self._dataset, clip, places, size)
        except DecodeError as error:
            raise DatasetError(
                f"clip {clip.clip_id} cannot be read: {error}; restore it, or curate again to leave it out"
            ) from error


def clip_frames(dataset: Path, clip: Clip, places: np.ndarray, size: Size) -> UInt8[np.ndarray, "t h w c"]:
    """Frames of a clip, scaled to cover `size` and cropped at the centre; turned where the clip is.

    Raises `DecodeError`.
    """
    times_s = grid_times(clip, places)
    if clip.turned:
        lying = Size(height=size.width, width=size.height)
        covering = cover(clip.width, clip.height, lying)
        frames = resize_crop(read_frames(source_file(dataset, clip), times_s, size=covering), lying)
        return np.ascontiguousarray(np.rot90(frames, -1, axes=(1, 2)))
    frames = read_frames(source_file(dataset, clip), times_s, size=cover(clip.height, clip.width, size))
    return resize_crop(frames, size)


def _decoded_bytes(clip: Clip, size: Size) -> int:
    return grid_size(clip) * size.area * 3


def draw_caption(clip: Clip, weights: Mapping[str, float], generator: np.random.Generator) -> str:
    """First a kind by weight (1 where not listed), then one of that kind; "" for a clip without captions.

    Always one draw.
    """
    position = generator.random()
    per_kind = {kind: sum(caption.kind == kind for caption in clip.captions) for kind in _kinds(clip)}
    shares = np.array(
        [weights.get(caption.kind, 1.0) / per_kind[caption.kind] for caption in clip.captions],
        dtype=np.float64,
    )
    if not shares.sum():
        return ""
    edges = np.cumsum(shares / shares.sum())
    return clip.captions[min(int(np.searchsorted(edges, position, side="right")), len(edges) - 1)].text


def _kinds(clip: Clip) -> set[str]:
    return {caption.kind for caption in clip.captions}
