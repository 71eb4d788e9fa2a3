"""Open-Sora 1.1's public weights as a model folder, and back."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kinema.checkpoint import read_json, read_tensors, write_json, write_tensors
from kinema.conventions import Preset
from kinema.convert.public_stdit2 import (
    CONFIG,
    TENSORS,
    Public,
    grown_tensors,
    image_config,
    public_config,
    public_record,
    read_public,
    video_tensors,
)
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.encoders.autoencoder_kl import FrameAutoencoder, FrameAutoencoderConfig
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.errors import CheckpointError, OutputError
from kinema.files import writable_folder, write_text
from kinema.lora import FOLDER
from kinema.model import Model, SamplingDefaults, TrainedOn, network_config, write_description
from kinema.nn import STDiT2, STDiT2Config, build_network

_MEMORY = "open-sora.json"
"""In the network's folder: the public config and the safetensors metadata as they were, for the way back."""
_DEFAULTS = SamplingDefaults(height=240, width=426, frames=16, fps=8.0, steps=100, guidance_scale=7.0)


@dataclass(frozen=True, kw_only=True)
class OpenSoraConfig:
    """`text_encoder` and `vae` are folders or hub names; None is the published one.

    `embed` copies encoders that are folders into the model. `qk_norm` gives a network that grows from an
    image network the norm of queries and keys, which the image network was trained without. `max_tokens` is
    its caption length.
    """

    text_encoder: str | None = None
    vae: str | None = None
    embed: bool = False
    qk_norm: bool = False
    max_tokens: int = 200


def convert_open_sora(path: Path, out: Path, config: OpenSoraConfig) -> dict[str, Any]:
    """Write the model folder `out` from OpenSora-STDiT-v2 weights, or grow it from PixArt's image weights."""
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; name another folder")
    public = read_public(path)
    grown = public.is_image_network
    network = image_config(public, config.max_tokens, qk_norm=config.qk_norm) if grown else _video(public)
    tensors, done = (grown_tensors if grown else video_tensors)(public, network)
    preset: Preset = "kinema" if grown else "published"
    writable_folder(out)
    autoencoder = FrameAutoencoder(_autoencoder(network, config, out))
    text_encoder = T5TextEncoder(_text_encoder(network, config, out))
    write_tensors(out / "network" / TENSORS, tensors)
    if not grown:
        text = public.file.with_name(CONFIG).read_text(encoding="utf-8")
        write_json(out / "network" / _MEMORY, {"config": text, "metadata": public.metadata})
    model = Model(
        network=_shapes(network),
        process=IDDPMConfig(learned_variance=network.learned_variance),
        autoencoder=autoencoder,
        text_encoder=text_encoder,
        sampling=_DEFAULTS,
        trained_on=TrainedOn(dataset=f"{path.name} (converted)", clips=0, steps=0, samples=0),
        preset=preset,
    )
    write_description(out, model)
    return {
        "out": str(out),
        "layout": "PixArt" if grown else "OpenSora-STDiT-v2",
        "preset": preset,
        "parameters": sum(tensor.numel() for tensor in tensors.values()),
        "changes": done,
        "text_encoder": text_encoder.config.source,
        "vae": autoencoder.config.source,
    }


def export_open_sora(model_folder: Path, out: Path, *, ema: bool = True) -> dict[str, Any]:
    """Write a model's network as config.json and model.safetensors, as Open-Sora 1.1 reads them."""
    config = network_config(model_folder)
    if not isinstance(config, STDiT2Config):
        raise CheckpointError(f"{model_folder} holds a {config.kind}; Open-Sora's layout is for stdit2")
    if (model_folder / FOLDER).is_dir():
        raise CheckpointError(
            f"{model_folder} holds a LoRA beside its weights; lay it into them first: "
            f"kinema pack {model_folder} --out MERGED"
        )
    record = public_record(config)
    averaged = model_folder / "ema" / "network.safetensors"
    file = averaged if ema and averaged.is_file() else model_folder / "network" / TENSORS
    memory = model_folder / "network" / _MEMORY
    remembered: dict[str, Any] = {"metadata": {"format": "pt"}}
    remembered |= read_json(memory) if memory.is_file() else {}
    writable_folder(out)
    write_tensors(out / TENSORS, read_tensors(file), remembered["metadata"] or None)
    if "config" in remembered:
        write_text(out / CONFIG, remembered["config"])
    else:
        write_json(out / CONFIG, record)
    return {"out": str(out), "weights": str(file), "layout": "OpenSora-STDiT-v2"}


def _video(public: Public) -> STDiT2Config:
    if public.config is None:
        raise CheckpointError(f"{public.file.with_name(CONFIG)} is missing; it says what network this is")
    return public_config(public.config, str(public.file.with_name(CONFIG)))


def _shapes(network: STDiT2Config) -> STDiT2:
    with torch.device("meta"):
        return build_network(network)


def _autoencoder(network: STDiT2Config, config: OpenSoraConfig, out: Path) -> FrameAutoencoderConfig:
    source = FrameAutoencoderConfig(source=config.vae or FrameAutoencoderConfig.source)
    folder = Path(source.source)
    if folder.is_dir():
        found = read_json(folder / CONFIG)
        sides = found.get("block_out_channels", [0] * 4)
        source = replace(
            source,
            latent_channels=found.get("latent_channels", 4),
            spatial_factor=2 ** (len(sides) - 1),
            scale=found.get("scaling_factor", source.scale),
        )
    if source.latent_channels != network.in_channels:
        raise CheckpointError(
            f"{source.source} makes {source.latent_channels} channels, "
            f"the network takes {network.in_channels}"
        )
    return replace(source, source=_embedded(folder, out / "vae") if config.embed else source.source)


def _text_encoder(network: STDiT2Config, config: OpenSoraConfig, out: Path) -> T5Config:
    source = T5Config(
        source=config.text_encoder or T5Config.source,
        width=network.caption_channels,
        max_tokens=network.max_tokens,
    )
    folder = Path(source.source)
    if folder.is_dir():
        width = read_json(folder / CONFIG).get("d_model")
        if width != network.caption_channels:
            raise CheckpointError(
                f"{folder} makes tokens {width} wide, the network takes {network.caption_channels}"
            )
    return replace(source, source=_embedded(folder, out / "text_encoder") if config.embed else source.source)


def _embedded(folder: Path, target: Path) -> str:
    """Copy weights and tables, and nothing that could be run."""
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder; only encoders from a folder can be embedded")
    wanted = [path for path in folder.iterdir() if path.suffix in {".safetensors", ".json", ".txt", ".model"}]
    target.mkdir(parents=True, exist_ok=True)
    for path in wanted:
        shutil.copy(path, target / path.name)
    return str(target)
