"""A piece of the work: some clips or captions, encoded in whatever process this is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kinema.checkpoint import read_json
from kinema.dataset.config import DataConfig
from kinema.dataset.latents import Entry, caption_key, entries, without_repeats
from kinema.dataset.loader import clip_frames
from kinema.dataset.packs import Packs, PackWriter
from kinema.dataset.store import kept_clips
from kinema.encoders.folder import open_autoencoder, open_text_encoder
from kinema.encoders.protocols import Autoencoder, TextEncoder
from kinema.errors import DecodeError
from kinema.manifest import Clip
from kinema.shapes import Size
from kinema.train.caching import as_kept, moments_of, rows_of
from kinema.train.config import CacheConfig
from kinema.video.transforms import to_video

ABOUT = "encoder.json"


@dataclass(frozen=True)
class Made:
    """What became of a piece: entries made, why clips have none, and whether the quota ended it."""

    made: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    full: bool = False


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where the work is written; what else counts for the quota; threads of torch in one process; a name of
    this run, for what a process remembers.
    """

    run: str
    folder: Path
    counted: tuple[Path, ...]
    quota_bytes: float
    threads: int

    def writer(self) -> PackWriter:
        """One that writes a piece's entries when they are large, and at its end."""
        return PackWriter(self.folder, quota_bytes=self.quota_bytes, counted=self.counted)


@dataclass(frozen=True, kw_only=True)
class EncodeClips:
    """Latents of the clips from `first` to `end` of a dataset, for all of a recipe's stages."""

    dataset: Path
    data: tuple[DataConfig, ...]
    cache: CacheConfig
    target: Target

    def __call__(self, piece: tuple[int, int]) -> Made:
        """Encode what is not there yet; a clip that cannot be read is told and left out."""
        torch.set_num_threads(self.target.threads)
        packs, writer = Packs(self.target.folder), self.target.writer()
        failed = {}
        for clip in kept_clips_once(self.dataset, self.target.run)[slice(*piece)]:
            todo = without_repeats(all_entries([clip], self.data), packs)
            try:
                self._encode(clip, todo, writer)
            except (DecodeError, OSError) as error:
                failed[clip.clip_id] = " ".join(str(error).split())
            if writer.full:
                break
        writer.flush()
        packs.close()
        return Made(writer.written, failed, writer.full)

    @torch.no_grad()
    def _encode(self, clip: Clip, todo: list[Entry], writer: PackWriter) -> None:
        autoencoder = _autoencoder(self.target.folder)
        sizes: dict[Size, list[Entry]] = defaultdict(list)
        for entry in todo:
            sizes[entry.size].append(entry)
        for size, same in sizes.items():
            places = np.unique(np.concatenate([entry.places for entry in same]))
            frames = clip_frames(self.dataset, clip, places, size)
            for entry in same:
                chosen = frames[np.searchsorted(places, entry.places)]
                video = to_video(chosen[:, :, ::-1] if entry.flipped else chosen)[None].to(device())
                writer.add(entry.key, as_kept(moments_of(autoencoder, video)[0], self.cache))


@dataclass(frozen=True, kw_only=True)
class EncodeCaptions:
    """Embeddings of the captions from `first` to `end` of a dataset."""

    dataset: Path
    target: Target

    def __call__(self, piece: tuple[int, int]) -> Made:
        """Embed what is not there yet."""
        torch.set_num_threads(self.target.threads)
        packs, writer = Packs(self.target.folder), self.target.writer()
        captions = all_captions(self.dataset, self.target.run)[slice(*piece)]
        todo = [caption for caption in captions if caption_key(caption) not in packs]
        if todo:
            rows = rows_of(_text_encoder(self.target.folder).encode(todo))
            for caption, row in zip(todo, rows, strict=True):
                writer.add(caption_key(caption), row)
        writer.flush()
        packs.close()
        return Made(writer.written, {}, writer.full)


def all_entries(clips: list[Clip], data: tuple[DataConfig, ...]) -> Iterator[Entry]:
    """What any of the stages could ask for."""
    return chain.from_iterable(entries(clips, config) for config in data)


@lru_cache(maxsize=1)
def kept_clips_once(dataset: Path, run: str) -> list[Clip]:  # noqa: ARG001 - another run reads anew
    """The clips in the manifest's order, read once a process and run."""
    return kept_clips(dataset)


@lru_cache(maxsize=1)
def all_captions(dataset: Path, run: str) -> list[str]:
    """Every caption that training may draw, once; "" where a clip has none."""
    clips = kept_clips_once(dataset, run)
    texts = (caption.text for clip in clips for caption in clip.captions)
    return sorted({*texts, *("" for clip in clips if not clip.captions)})


@lru_cache(maxsize=1)
def _autoencoder(folder: Path) -> Autoencoder:
    autoencoder = open_autoencoder(folder, read_json(folder / ABOUT))
    if isinstance(autoencoder, nn.Module):
        autoencoder.to(device()).eval()
    return autoencoder


@lru_cache(maxsize=1)
def _text_encoder(folder: Path) -> TextEncoder:
    encoder = open_text_encoder(folder, read_json(folder / ABOUT))
    if isinstance(encoder, nn.Module):
        encoder.to(device()).eval()
    return encoder


def device() -> torch.device:
    """Where encoders work."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
