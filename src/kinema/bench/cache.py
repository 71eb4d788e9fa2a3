"""Reading latents: kinema's cache beside encoding online, and beside webdataset over the same tensors."""

from __future__ import annotations

import io
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kinema.bench.figures import Figure, interleaved, report
from kinema.caching.build import Crew, build_caches
from kinema.curate.pipeline import CurateConfig, curate
from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.latents import StoredEncodings, entries
from kinema.dataset.loader import Batch, iterate_batches
from kinema.dataset.store import kept_clips
from kinema.encoders.protocols import Autoencoder, training_latents
from kinema.manifest import read_clips, write_clips
from kinema.progress import Silent
from kinema.train.caching import open_caches
from kinema.train.config import CacheConfig, TrainConfig
from kinema.train.encoders import fresh_encoders
from kinema.video.writer import write_video

_BATCH, _FILES = 16, 4


def run(windows: int = 64, batches: int = 64) -> dict[str, Any]:
    """Samples a second of one reading process, in batches of 16; `windows` of each of four clips are
    kept."""
    with tempfile.TemporaryDirectory(prefix="kinema-bench-") as folder:
        work = Path(folder)
        dataset, config = _dataset(work), _config(windows)
        build_caches(config, dataset, Crew(workers=0), Silent())
        encoders = fresh_encoders(config, dataset, None)
        caches = open_caches(config, dataset, encoders.autoencoder, encoders.text)
        shards = _shards(work, dataset, config, caches.stored)
        tasks: dict[str, Callable[[], object]] = {
            "cache": lambda: _read(dataset, config, batches, caches.stored),
            "online": lambda: _encode(dataset, config, max(1, batches // 16), encoders.autoencoder),
        }
        notes = []
        if (peer := _webdataset(shards, batches)) is None:
            notes.append('webdataset is not installed: pip install "kinema[dev]"')
        else:
            tasks["webdataset"] = peer
        seconds = interleaved(tasks, rounds=3)
        return report("cache", _figures(seconds, batches), notes)


def _figures(seconds: dict[str, float], batches: int) -> list[Figure]:
    cached = batches * _BATCH / seconds["cache"]
    online = max(1, batches // 16) * _BATCH / seconds["online"]
    figures = [
        Figure(
            name="batches from the cache",
            value=cached,
            unit="samples/s",
            peer="decoding and encoding online",
            peer_value=online,
        )
    ]
    if "webdataset" in seconds:
        figures.append(
            Figure(
                name="batches from the cache, in any order",
                value=cached,
                unit="samples/s",
                peer="webdataset over the same tensors",
                peer_value=batches * _BATCH / seconds["webdataset"],
                target=1.0,
            )
        )
    return figures


def _read(dataset: Path, config: TrainConfig, batches: int, stored: StoredEncodings) -> float:
    """What the trainer does with a cache, up to the network."""
    total = 0.0
    for batch in _batches(dataset, config.data, batches, stored):
        assert batch.moments is not None
        total += float(batch.moments[0, 0, 0, 0, 0])
    return total


def _encode(dataset: Path, config: TrainConfig, batches: int, autoencoder: Autoencoder) -> float:
    """What it does without one: nothing is kept in memory, as with a dataset that is larger."""
    data = replace(config.data, cache_mb=0)
    total = 0.0
    for batch in _batches(dataset, data, batches, None):
        total += float(training_latents(autoencoder, batch.video, batch.seeds)[0, 0, 0, 0, 0])
    return total


def _batches(
    dataset: Path, data: DataConfig, batches: int, stored: StoredEncodings | None
) -> Iterator[Batch]:
    read = iterate_batches(dataset, data, stored=stored)
    try:
        yield from islice(read, batches)
    finally:
        read.close()


def _webdataset(shards: Sequence[Path], batches: int) -> Callable[[], object] | None:
    """The usual pipeline of that library: shards and samples shuffled, arrays decoded, stacked."""
    try:
        import webdataset as wds
    except ImportError:
        return None

    def read() -> float:
        pipeline = (
            wds.WebDataset([str(shard) for shard in shards], shardshuffle=len(shards), seed=0)
            .repeat()
            .shuffle(64)
            .decode()
            .to_tuple("npy", "json")
            .batched(_BATCH, collation_fn=_stacked)
        )
        return sum(float(batch[0, 0, 0, 0, 0]) for batch in islice(iter(pipeline), batches))

    return read


def _stacked(samples: list[tuple[np.ndarray, dict[str, Any]]]) -> Tensor:
    return torch.stack([torch.from_numpy(array) for array, _ in samples])


def _shards(work: Path, dataset: Path, config: TrainConfig, stored: StoredEncodings) -> list[Path]:
    """The cache's tensors as .npy in tar shards, with the caption beside each."""
    paths = [work / f"latents-{number:05}.tar" for number in range(_FILES)]
    found = list(entries(kept_clips(dataset), config.data))
    for number, path in enumerate(paths):
        with tarfile.open(path, "w") as shard:
            for entry in found[number::_FILES]:
                array = io.BytesIO()
                np.save(array, stored.moments(entry.key).numpy())
                _add(shard, f"{entry.key}.npy", array.getvalue())
                _add(shard, f"{entry.key}.json", b'{"text": "a clip"}')
    return paths


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), int(time.time())
    shard.addfile(member, io.BytesIO(content))


def _config(windows: int) -> TrainConfig:
    data = DataConfig(
        buckets=(BucketRule(resolution="64px", frames=8),),
        bucketing=Timed(fps=8.0),
        batch_size=_BATCH,
        windows=windows,
        caption_weights={},
    )
    return TrainConfig(data=data, cache=CacheConfig(latents=True), fit_batches=1)


def _dataset(work: Path) -> Path:
    """Four clips of noise that moves, three seconds of 320 by 240 pixels each."""
    footage = work / "footage"
    footage.mkdir()
    for number in range(4):
        generator = np.random.default_rng(number)
        ground = generator.integers(0, 255, (30, 52, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        frames = np.stack([np.roll(ground, 2 * place, axis=1)[:, :320] for place in range(72)])
        write_video(footage / f"clip {number}.mp4", frames, fps=24)
    curate([str(footage)], work / "dataset", replace(CurateConfig(), workers=0))
    kept = [replace(clip, kept=True, drop_reasons=()) for clip in read_clips(work / "dataset")]
    for part in (work / "dataset" / "clips").glob("part-*.parquet"):
        part.unlink()
    write_clips(work / "dataset", "0", kept)
    return work / "dataset"
