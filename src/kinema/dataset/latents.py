"""What encoders made of a dataset's clips and captions, kept beside it: `latents/KEY/`, `embeddings/KEY/`.

KEY is the hash of the encoder and of how pixels are prepared; inside, each entry is named by the clip's
content, the size, the places of its frames and the mirroring. Nothing made by another encoder is ever read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from kinema.dataset.buckets import ClipShape, RuleTable, Timed, reachable
from kinema.dataset.config import DataConfig
from kinema.dataset.packs import Packs, entry_key
from kinema.dataset.windows import windows
from kinema.encoders.protocols import EncodedText
from kinema.manifest import Clip
from kinema.shapes import Size

_PREPARATION = 1
"""Goes up when scaling, cropping or the choice of frames change: then all latents are other ones."""


def latents_folder(dataset: Path, encoder: str, precision: str) -> Path:
    """Where the latents of an encoder (by its hash) lie."""
    return dataset / "latents" / entry_key("latents", _PREPARATION, encoder, precision)[:16]


def embeddings_folder(dataset: Path, encoder: str) -> Path:
    """Where the captions' embeddings of an encoder lie."""
    return dataset / "embeddings" / entry_key("embeddings", encoder)[:16]


def latents_key(clip: Clip, size: Size, places: NDArray[np.int64], *, flipped: bool) -> str:
    """Names the latents of some frames of a clip."""
    stored = (clip.shard, clip.offset, clip.size, clip.stored_start_s, clip.stored_frames)
    content = (clip.clip_id, clip.start_s, clip.duration_s, clip.frames, *(stored if clip.shard else ()))
    return entry_key(*content, clip.height, clip.width, size, places.tolist(), flipped)


def caption_key(caption: str) -> str:
    """Names a caption's embedding."""
    return entry_key(caption)


@dataclass(frozen=True)
class Entry:
    """One thing to encode: frames of a clip at a size."""

    key: str
    clip: Clip
    size: Size
    places: NDArray[np.int64]
    flipped: bool


def entries(clips: Sequence[Clip], config: DataConfig) -> Iterator[Entry]:
    """All that training could ask for, in any epoch; needs `config.windows`."""
    table = RuleTable(config.buckets)
    for clip in clips:
        if isinstance(config.bucketing, Timed) and config.bucketing.weight(clip) == 0:
            continue
        for placed in reachable(ClipShape.of(clip), table, config.bucketing):
            for window in windows(clip, placed.bucket.frames, config):
                for flipped in (False, True) if config.flip else (False,):
                    size = placed.bucket.size
                    key = latents_key(clip, size, window.places, flipped=flipped)
                    yield Entry(key, clip, size, window.places, flipped)


def without_repeats(found: Iterator[Entry], known: Packs) -> list[Entry]:
    """Each entry once, and none that is there already."""
    unique = {entry.key: entry for entry in found}
    return [entry for key, entry in unique.items() if key not in known]


@dataclass(frozen=True)
class StoredEncodings:
    """What can be read instead of encoded; None: nothing. Captions are padded to `max_tokens`."""

    latents: Packs | None = None
    embeddings: Packs | None = None
    max_tokens: int = 0

    def holds(self, keys: Sequence[str]) -> bool:
        """Whether the latents of all of these are there."""
        return self.latents is not None and all(key in self.latents for key in keys)

    def moments(self, key: str) -> Float[Tensor, "c2 t2 h2 w2"]:
        """What the latents of an entry are drawn from."""
        assert self.latents is not None
        return self.latents.read(key).float()

    def text_of(self, captions: Sequence[str]) -> EncodedText | None:
        """The embeddings of captions, when all of them are there."""
        packs, keys = self.embeddings, [caption_key(caption) for caption in captions]
        if packs is None or not all(key in packs for key in keys):
            return None
        rows = [packs.read(key).float() for key in keys]
        tokens = torch.zeros(len(rows), self.max_tokens, rows[0].shape[-1])
        mask = torch.zeros(len(rows), self.max_tokens, dtype=torch.bool)
        for index, row in enumerate(rows):
            tokens[index, : len(row)], mask[index, : len(row)] = row, True
        return EncodedText(tokens, mask)

    def refresh(self) -> None:
        """See what was added since."""
        for packs in (self.latents, self.embeddings):
            if packs is not None:
                packs.refresh()

    def close(self) -> None:
        """Let go of the files."""
        for packs in (self.latents, self.embeddings):
            if packs is not None:
                packs.close()
