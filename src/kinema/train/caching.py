"""Encodings that are kept: read where they are there, made and added where not."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.checkpoint import write_json
from kinema.dataset.latents import StoredEncodings, caption_key, embeddings_folder, latents_folder
from kinema.dataset.loader import Batch
from kinema.dataset.packs import Packs, PackWriter, holding, lossless
from kinema.encoders.embedded import WordTextEncoder
from kinema.encoders.identity import encoder_hash
from kinema.encoders.protocols import (
    Autoencoder,
    Distributed,
    EncodedText,
    TextEncoder,
    Variational,
    training_latents,
)
from kinema.errors import ConfigError
from kinema.train.config import CacheConfig, TrainConfig
from kinema.train.stages import stages

_log = logging.getLogger(__name__)
_PART_MB = 64.0


@dataclass
class Caches:
    """What a run reads instead of encoding, and where it adds what it had to encode."""

    config: CacheConfig
    stored: StoredEncodings
    latents: PackWriter | None = None
    embeddings: PackWriter | None = None

    def encode(
        self, autoencoder: Autoencoder, text_encoder: TextEncoder, batch: Batch
    ) -> tuple[Float[Tensor, "b c t h w"], Batch]:
        """The batch's clean latents, and the batch with its text where that is kept."""
        return self._clean(autoencoder, batch), self._with_text(text_encoder, batch)

    def held(self) -> AbstractContextManager[None]:
        """While training: nobody removes what it reads."""
        packs = (self.stored.latents, self.stored.embeddings)
        return holding(*(one.folder for one in packs if one is not None))

    def flush(self) -> None:
        """Write what waits, and see what is there."""
        for writer in (self.latents, self.embeddings):
            if writer is not None:
                told = writer.full
                writer.flush()
                if writer.full and not told:
                    _log.warning(
                        "%s is full (cache.quota_gb = %g); what is not in it is encoded anew each time",
                        writer.folder,
                        self.config.quota_gb,
                    )
        self.stored.refresh()

    @torch.no_grad()
    def _clean(self, autoencoder: Autoencoder, batch: Batch) -> Float[Tensor, "b c t h w"]:
        if self.latents is None:
            return training_latents(autoencoder, batch.video, batch.seeds)
        moments = batch.moments
        if moments is None:
            moments = as_kept(moments_of(autoencoder, batch.video), self.config)
            for key, row in zip(batch.keys, moments, strict=True):
                self.latents.add(key, row)
            moments = moments.float()
        return autoencoder.draw(moments, batch.seeds) if isinstance(autoencoder, Distributed) else moments

    def _with_text(self, text_encoder: TextEncoder, batch: Batch) -> Batch:
        if self.embeddings is None or batch.text is not None:
            return batch
        encoded = text_encoder.encode(batch.captions)
        for caption, row in zip(batch.captions, rows_of(encoded), strict=True):
            self.embeddings.add(caption_key(caption), row)
        return replace(batch, text=encoded)


def moments_of(autoencoder: Autoencoder, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
    """What training's latents are drawn from; on the CPU clip by clip, as `training_latents` does it."""
    if video.device.type == "cpu" and len(video) > 1:
        return torch.cat([moments_of(autoencoder, row[None]) for row in video])
    if isinstance(autoencoder, Distributed):
        return autoencoder.moments(video)
    return autoencoder.encode(video)


def as_kept(moments: Tensor, config: CacheConfig) -> Tensor:
    """In the precision of the cache."""
    return moments.half() if config.precision == "fp16" else moments


def rows_of(encoded: EncodedText) -> list[Float[Tensor, "l d"]]:
    """Each caption's own tokens, without padding, as they are kept."""
    return [
        lossless(tokens[: int(mask.sum())]) for tokens, mask in zip(encoded.tokens, encoded.mask, strict=True)
    ]


def open_caches(
    config: TrainConfig, dataset: Path, autoencoder: Autoencoder, text_encoder: TextEncoder
) -> Caches:
    """The caches that `config.cache` asks for. Raises `ConfigError` for what cannot be kept, in words."""
    cache = config.cache
    check_cacheable(config, autoencoder, text_encoder)
    beside = cache.folder or dataset
    folders: list[Path | None] = [None, None]
    if cache.latents:
        folders[0] = latents_folder(beside, encoder_hash(autoencoder), cache.precision)
    if cache.text:
        folders[1] = embeddings_folder(beside, encoder_hash(text_encoder))
    encoders = (autoencoder, text_encoder)
    for folder, encoder in zip(folders, encoders, strict=True):
        if folder is not None and not (folder / "about.json").is_file():
            write_json(folder / "about.json", {"encoder": type(encoder).__name__})
    latents, embeddings = (None if folder is None else Packs(folder) for folder in folders)
    for packs in (latents, embeddings):
        for name, reason in (packs.damaged if packs is not None else {}).items():
            _log.warning("cached part passed over: %s: %s", name, reason)
    counted = (beside / "latents", beside / "embeddings")

    def writer(folder: Path | None) -> PackWriter | None:
        return None if folder is None else PackWriter(folder, _PART_MB, cache.quota_gb * 1e9, counted)

    stored = StoredEncodings(latents, embeddings, text_encoder.max_tokens)
    return Caches(cache, stored, *map(writer, folders))


def check_cacheable(config: TrainConfig, autoencoder: Autoencoder, text_encoder: TextEncoder) -> None:
    """Raise `ConfigError` when what the recipe wants to keep changes while it trains."""
    if config.cache.text and isinstance(text_encoder, WordTextEncoder):
        raise ConfigError(
            "cache.text: the text encoder of kind words is trained along, so its embeddings change in every "
            "step; leave cache.text off, or use a text encoder of kind t5"
        )
    if not config.cache.latents:
        return
    if config.task != "text-to-video":
        raise ConfigError("cache.latents: this task looks at pixels besides latents; leave it off")
    if isinstance(autoencoder, Variational) and not isinstance(autoencoder, Distributed):
        raise ConfigError("cache.latents: this autoencoder does not tell its distribution; leave it off")
    if any(stage.config.data.windows == 0 for stage in stages(config)):
        raise ConfigError(
            "cache.latents: a clip has any number of windows in time; set data.windows to how many are kept "
            "of each, for example data.windows=1 for the middle one"
        )
