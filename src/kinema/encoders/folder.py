"""Encoders in a model folder: a config that names the kind, and safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from kinema.checkpoint import (
    as_record,
    fill_module,
    from_record,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from kinema.encoders.autoencoder import (
    CLASS_NAME,
    TemporalAutoencoder,
    load_temporal_autoencoder,
    save_temporal_autoencoder,
)
from kinema.encoders.embedded import PatchPCA, PatchPCAConfig, WordTextConfig, WordTextEncoder
from kinema.encoders.protocols import Autoencoder, TextEncoder
from kinema.errors import CheckpointError

_CONFIG, _TENSORS, _VOCABULARY = "config.json", "model.safetensors", "vocabulary.json"


def save_autoencoder(folder: Path, autoencoder: Autoencoder) -> None:
    """Write the autoencoder's folder; tensors first, the config last."""
    match autoencoder:
        case PatchPCA():
            _save(folder, "patch-pca", as_record(autoencoder.config), autoencoder)
        case TemporalAutoencoder():
            save_temporal_autoencoder(folder, autoencoder)
        case _:
            raise TypeError(f"no folder form for {type(autoencoder).__name__}")


def load_autoencoder(folder: Path) -> Autoencoder:
    """Read an autoencoder's folder: kinema's own, or the `vae` of a released video model."""
    kind, record, source = _kind_of(folder)
    if record.get("_class_name") == CLASS_NAME:
        return load_temporal_autoencoder(folder)
    match kind:
        case "patch-pca":
            autoencoder = PatchPCA(from_record(PatchPCAConfig, record, source))
            fill_module(autoencoder, read_tensors(folder / _TENSORS), str(folder / _TENSORS))
            return autoencoder
        case _:
            raise CheckpointError(f"{source}: unknown autoencoder kind {kind!r}; known are patch-pca")


def save_text_encoder(folder: Path, encoder: TextEncoder) -> None:
    """Write the text encoder's folder; the config last."""
    match encoder:
        case WordTextEncoder():
            write_json(folder / _VOCABULARY, {"words": list(encoder.vocabulary)})
            _save(folder, "words", as_record(encoder.config), encoder)
        case _:
            raise TypeError(f"no folder form for {type(encoder).__name__}")


def load_text_encoder(folder: Path) -> TextEncoder:
    """Read a text encoder's folder."""
    kind, record, source = _kind_of(folder)
    match kind:
        case "words":
            vocabulary = read_json(folder / _VOCABULARY).get("words", [])
            encoder = WordTextEncoder(from_record(WordTextConfig, record, source), vocabulary)
            fill_module(encoder, read_tensors(folder / _TENSORS), str(folder / _TENSORS))
            return encoder
        case _:
            raise CheckpointError(f"{source}: unknown text encoder kind {kind!r}; known are words")


def _save(folder: Path, kind: str, record: dict[str, Any], module: nn.Module) -> None:
    write_tensors(folder / _TENSORS, module.state_dict())
    write_json(folder / _CONFIG, {"kind": kind, **record})


def _kind_of(folder: Path) -> tuple[str, dict[str, Any], str]:
    source = folder / _CONFIG
    record = read_json(source)
    return str(record.pop("kind", "")), record, str(source)
