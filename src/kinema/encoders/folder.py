"""Encoders of a model folder: embedded ones as a config that names the kind and safetensors, published ones
as a reference in model.toml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
    PublishedTemporalAutoencoder,
    TemporalAutoencoder,
    TemporalAutoencoderConfig,
    load_temporal_autoencoder,
    save_temporal_autoencoder,
)
from kinema.encoders.autoencoder_kl import (
    CausalAutoencoder,
    CausalAutoencoderConfig,
    FrameAutoencoder,
    FrameAutoencoderConfig,
)
from kinema.encoders.clip_text import ClipTextConfig, ClipTextEncoder
from kinema.encoders.embedded import PatchPCA, PatchPCAConfig, WordTextConfig, WordTextEncoder
from kinema.encoders.pictures import ClipImageConfig, ClipImageEncoder, PictureConfig, PictureEncoder
from kinema.encoders.protocols import Autoencoder, ImageEncoder, NoText, TextEncoder
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.errors import CheckpointError

_CONFIG, _TENSORS, _VOCABULARY = "config.json", "model.safetensors", "vocabulary.json"
Referenced = (
    FrameAutoencoderConfig
    | CausalAutoencoderConfig
    | TemporalAutoencoderConfig
    | T5Config
    | ClipTextConfig
    | ClipImageConfig
)
Record = Mapping[str, Any]


def store_autoencoder(model_folder: Path, name: str, autoencoder: Autoencoder) -> dict[str, Any]:
    """What model.toml says of the autoencoder; an embedded one is written to the folder `name`."""
    match autoencoder:
        case FrameAutoencoder() | CausalAutoencoder() | PublishedTemporalAutoencoder():
            return reference(autoencoder.config, model_folder)
        case _:
            save_autoencoder(model_folder / name, autoencoder)
            return {"folder": name}


def open_autoencoder(model_folder: Path, record: Record) -> Autoencoder:
    """The autoencoder that model.toml speaks of."""
    match record.get("kind"):
        case None:
            return load_autoencoder(model_folder / record["folder"])
        case "frame-kl":
            return FrameAutoencoder(_located(FrameAutoencoderConfig, record, model_folder))
        case "cogvideox":
            return CausalAutoencoder(_located(CausalAutoencoderConfig, record, model_folder))
        case "temporal-kl":
            return PublishedTemporalAutoencoder(_located(TemporalAutoencoderConfig, record, model_folder))
        case kind:
            raise CheckpointError(
                f"{model_folder}: unknown autoencoder kind {kind!r}; "
                "known are frame-kl, cogvideox, temporal-kl"
            )


def store_text_encoder(model_folder: Path, name: str, encoder: TextEncoder) -> dict[str, Any]:
    """What model.toml says of the text encoder; an embedded one is written to the folder `name`."""
    match encoder:
        case T5TextEncoder() | ClipTextEncoder():
            return reference(encoder.config, model_folder)
        case NoText():
            return {"kind": "none"}
        case _:
            save_text_encoder(model_folder / name, encoder)
            return {"folder": name}


def open_text_encoder(model_folder: Path, record: Record) -> TextEncoder:
    """The text encoder that model.toml speaks of."""
    match record.get("kind"):
        case None:
            return load_text_encoder(model_folder / record["folder"])
        case "t5":
            return T5TextEncoder(_located(T5Config, record, model_folder))
        case "clip-text":
            return ClipTextEncoder(_located(ClipTextConfig, record, model_folder))
        case "none":
            return NoText()
        case kind:
            raise CheckpointError(
                f"{model_folder}: unknown text encoder kind {kind!r}; known are t5, clip-text, none"
            )


def store_image_encoder(model_folder: Path, name: str, encoder: ImageEncoder) -> dict[str, Any]:
    """What model.toml says of the image encoder; an embedded one is written to the folder `name`."""
    match encoder:
        case ClipImageEncoder():
            return reference(encoder.config, model_folder)
        case PictureEncoder():
            _save(model_folder / name, as_record(encoder.config), encoder)
            return {"folder": name}
        case _:
            raise TypeError(f"no folder form for {type(encoder).__name__}")


def open_image_encoder(model_folder: Path, record: Record) -> ImageEncoder:
    """The image encoder that model.toml speaks of."""
    match record.get("kind"):
        case None:
            folder = model_folder / record["folder"]
            encoder = PictureEncoder(
                from_record(PictureConfig, read_json(folder / _CONFIG), str(folder / _CONFIG))
            )
            fill_module(encoder, read_tensors(folder / _TENSORS), str(folder / _TENSORS))
            return encoder
        case "clip-image":
            return ClipImageEncoder(_located(ClipImageConfig, record, model_folder))
        case kind:
            raise CheckpointError(
                f"{model_folder}: unknown image encoder kind {kind!r}; known are clip-image"
            )


def reference(config: Referenced, model_folder: Path) -> dict[str, Any]:
    """A config for model.toml; a folder inside the model's is named from there: the model can be moved."""
    source = Path(config.source)
    if source.is_dir() and source.resolve().is_relative_to(model_folder.resolve()):
        config = replace(
            config, source="./" + source.resolve().relative_to(model_folder.resolve()).as_posix()
        )
    elif source.is_dir():
        config = replace(config, source=str(source.resolve()))
    return as_record(config)


def _located(kind: type[Any], record: Record, model_folder: Path) -> Any:  # noqa: ANN401 - `kind`
    config = from_record(kind, record, str(model_folder))
    inside = config.source.startswith("./")
    return replace(config, source=str(model_folder / config.source)) if inside else config


def save_autoencoder(folder: Path, autoencoder: Autoencoder) -> None:
    """Write an embedded autoencoder's folder; tensors first, the config last."""
    match autoencoder:
        case PatchPCA():
            _save(folder, as_record(autoencoder.config), autoencoder)
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
    """Write an embedded text encoder's folder; the config last."""
    match encoder:
        case WordTextEncoder():
            write_json(folder / _VOCABULARY, {"words": list(encoder.vocabulary)})
            _save(folder, as_record(encoder.config), encoder)
        case _:
            raise TypeError(f"no folder form for {type(encoder).__name__}")


def load_text_encoder(folder: Path) -> TextEncoder:
    """Read an embedded text encoder's folder."""
    kind, record, source = _kind_of(folder)
    match kind:
        case "words":
            vocabulary = read_json(folder / _VOCABULARY).get("words", [])
            encoder = WordTextEncoder(from_record(WordTextConfig, record, source), vocabulary)
            fill_module(encoder, read_tensors(folder / _TENSORS), str(folder / _TENSORS))
            return encoder
        case _:
            raise CheckpointError(f"{source}: unknown text encoder kind {kind!r}; known are words")


def _save(folder: Path, record: dict[str, Any], module: nn.Module) -> None:
    write_tensors(folder / _TENSORS, module.state_dict())
    write_json(folder / _CONFIG, record)


def _kind_of(folder: Path) -> tuple[str, dict[str, Any], str]:
    source = folder / _CONFIG
    record = read_json(source)
    return str(record.get("kind", "")), record, str(source)
