"""Everything that a recipe can ask of its encoders, encoded before the first step; goes on where it ended."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from kinema.caching.encode import (
    ABOUT,
    EncodeCaptions,
    EncodeClips,
    Made,
    Target,
    all_captions,
    all_entries,
    kept_clips_once,
)
from kinema.checkpoint import write_json
from kinema.curate.engines import build_engine
from kinema.curate.workers import Budget, OverBudget, WorkerDied
from kinema.dataset.latents import caption_key, without_repeats
from kinema.dataset.packs import Packs, folder_bytes, holding, remove_unheld
from kinema.encoders.embedded import WordTextEncoder
from kinema.encoders.folder import store_autoencoder, store_text_encoder
from kinema.encoders.protocols import Autoencoder, TextEncoder
from kinema.errors import ConfigError
from kinema.model import load_model
from kinema.progress import Progress
from kinema.train.caching import Caches, open_caches
from kinema.train.config import TrainConfig
from kinema.train.encoders import fresh_encoders, with_encoders
from kinema.train.stages import stages

_CLIPS_A_PIECE, _CAPTIONS_A_PIECE = 8, 64
_KILLED = "the worker process was killed (out of memory?)"
Piece = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Crew:
    """Who encodes: processes of this machine, or the actors of a Ray cluster."""

    engine: Literal["local", "ray"] = "local"
    workers: int | None = None

    @property
    def threads(self) -> int:
        """Of each process: one where there are several, else as many as this one has."""
        return torch.get_num_threads() if self.workers == 0 else 1

    def run(self, function: Callable[[Piece], Made], todo: list[Piece]) -> Iterator[tuple[Piece, Made]]:
        """Every piece, as they are done; one whose process was killed fails as a whole."""
        engine = build_engine(self.engine, self.workers, len(todo))
        for piece, made in engine.run(function, todo, _any_cost):
            if isinstance(made, WorkerDied | OverBudget):
                made = Made(failed={f"{piece[0]} to {piece[1] - 1}": _KILLED})  # noqa: PLW2901
            yield piece, made


def _any_cost(_: Piece) -> Budget:
    """Encoders differ too much for a limit."""
    return Budget()


@dataclass
class Outcome:
    """One kind of encodings: where, how many, and what went wrong. `reason` says why there are none."""

    folder: str = ""
    entries: int = 0
    made: int = 0
    bytes: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    full: bool = False
    reason: str = ""


def build_caches(
    config: TrainConfig, dataset: Path, crew: Crew, progress: Progress, model: Path | None = None
) -> dict[str, Any]:
    """Encode all that a run of `config` could ask for and that is not there; return a summary.

    Encoders are those of `model`, or those that a run on this dataset would begin with. When `config.cache`
    names nothing, everything that can be kept is.
    """
    began = time.monotonic()
    progress.stage("encoders")
    start_from = model or config.start_from
    started = None if start_from is None else load_model(start_from, ema=False)
    if config.task != "text-to-video":
        raise ConfigError(f"task {config.task} looks at pixels besides latents: nothing can be kept of it")
    encoders = fresh_encoders(config, dataset, started)
    autoencoder, text_encoder = encoders.autoencoder, encoders.text
    config = _wanted(with_encoders(config, encoders, started), text_encoder)
    caches = open_caches(config, dataset, autoencoder, text_encoder)
    builder = _Builder(config, dataset, crew, progress, secrets.token_hex(4))
    latents = builder.latents(caches, autoencoder)
    embeddings = builder.embeddings(caches, text_encoder)
    return {
        "latents": vars(latents),
        "embeddings": vars(embeddings),
        "quota_gb": config.cache.quota_gb,
        "bytes": folder_bytes(*_kinds(config, dataset)),
        "seconds": round(time.monotonic() - began, 2),
    }


def prune(config: TrainConfig, dataset: Path, kept: dict[str, Any]) -> dict[str, Any]:
    """Remove what other encoders and preparations made, unless a run is using it."""
    folders = [path for kind in _kinds(config, dataset) for path in kind.glob("*") if path.is_dir()]
    others = [path for path in folders if str(path) not in {kept[name]["folder"] for name in _NAMES}]
    sizes = {path: folder_bytes(path) for path in others}
    removed = [path for path in others if remove_unheld(path)]
    return {
        "removed": [str(path) for path in removed],
        "in_use": [str(path) for path in others if path not in removed],
        "bytes_freed": sum(sizes[path] for path in removed),
    }


_NAMES = ("latents", "embeddings")


def _kinds(config: TrainConfig, dataset: Path) -> tuple[Path, ...]:
    return tuple((config.cache.folder or dataset) / name for name in _NAMES)


def _wanted(config: TrainConfig, text_encoder: TextEncoder) -> TrainConfig:
    if config.cache.latents or config.cache.text:
        return config
    text = not isinstance(text_encoder, WordTextEncoder)
    return replace(config, cache=replace(config.cache, latents=True, text=text))


@dataclass(frozen=True)
class _Builder:
    config: TrainConfig
    dataset: Path
    crew: Crew
    progress: Progress
    run: str

    def latents(self, caches: Caches, autoencoder: Autoencoder) -> Outcome:
        packs = caches.stored.latents
        if packs is None:
            return Outcome(reason="cache.latents is off")
        data = tuple(stage.config.data for stage in stages(self.config))
        clips = kept_clips_once(self.dataset, self.run)
        missing = [bool(without_repeats(all_entries([clip], data), packs)) for clip in clips]
        todo = _pieces(missing, _CLIPS_A_PIECE)
        write_json(packs.folder / ABOUT, store_autoencoder(packs.folder, "encoder", autoencoder))
        function = EncodeClips(
            dataset=self.dataset, data=data, cache=self.config.cache, target=self._target(packs.folder)
        )
        return self._made("latents", packs, function, todo)

    def embeddings(self, caches: Caches, text_encoder: TextEncoder) -> Outcome:
        packs = caches.stored.embeddings
        if packs is None:
            learning = isinstance(text_encoder, WordTextEncoder)
            return Outcome(reason="the text encoder is trained along" if learning else "cache.text is off")
        captions = all_captions(self.dataset, self.run)
        todo = _pieces([caption_key(caption) not in packs for caption in captions], _CAPTIONS_A_PIECE)
        write_json(packs.folder / ABOUT, store_text_encoder(packs.folder, "encoder", text_encoder))
        function = EncodeCaptions(dataset=self.dataset, target=self._target(packs.folder))
        return self._made("embeddings", packs, function, todo)

    def _target(self, folder: Path) -> Target:
        return Target(
            run=self.run,
            folder=folder,
            counted=_kinds(self.config, self.dataset),
            quota_bytes=self.config.cache.quota_gb * 1e9,
            threads=self.crew.threads,
        )

    def _made(self, name: str, packs: Packs, function: Callable[[Piece], Made], todo: list[Piece]) -> Outcome:
        outcome = Outcome(folder=str(packs.folder))
        self.progress.stage(name, sum(end - first for first, end in todo))
        with holding(packs.folder):
            for (first, end), made in self.crew.run(function, todo):
                outcome.made += made.made
                outcome.failed |= made.failed
                outcome.full |= made.full
                self.progress.advance(end - first, note=f"{outcome.made} made")
                if outcome.full:
                    break
            write_json(packs.folder / "failed.json", outcome.failed)
        packs.refresh()
        outcome.entries, outcome.bytes = len(packs), folder_bytes(packs.folder)
        return outcome


def _pieces(missing: list[bool], length: int) -> list[Piece]:
    """Spans of at most `length` that hold something missing."""
    spans = ((first, min(first + length, len(missing))) for first in range(0, len(missing), length))
    return [(first, end) for first, end in spans if any(missing[first:end])]
