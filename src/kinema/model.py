"""The whole trained thing in its folder: network, process, encoders, and what a sampler should know of it."""

from __future__ import annotations

import hashlib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch
from torch import Tensor, nn

from kinema import __version__
from kinema.checkpoint import (
    as_record,
    fill_module,
    from_record,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from kinema.conventions import CONVENTIONS, Conventions, Preset
from kinema.diffusion.edm import EDMConfig
from kinema.diffusion.guidance import GuidanceShape
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.processes import Process
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.encoders.embedded import WordTextEncoder
from kinema.encoders.folder import (
    open_autoencoder,
    open_image_encoder,
    open_text_encoder,
    store_autoencoder,
    store_image_encoder,
    store_text_encoder,
)
from kinema.encoders.grammar import Language
from kinema.encoders.offload import offload
from kinema.encoders.protocols import Autoencoder, ImageEncoder, TextEncoder
from kinema.errors import CheckpointError, OutputError
from kinema.files import write_text
from kinema.lora import FOLDER, merge_loras, read_lora, write_adapter
from kinema.motion import MotionMap
from kinema.nn import (
    Network,
    NetworkConfig,
    STDiT2Config,
    Task,
    VideoUNet,
    VideoUNetConfig,
    build_network,
)

_MODEL, _NETWORK, _AVERAGE, _VAE, _TEXT = "model.toml", "network", "ema", "vae", "text_encoder"
_IMAGE = "image_encoder"
_CONFIG, _TENSORS = "config.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """What a video of this model is when nothing else is asked: a shape it was trained on.

    `guidance_first` is the scale of the first frame, where it is not the same for all; `guidance_given` that
    of clips with given frames. `keep_given`: how close what is made comes to given frames where it is taken
    from them (kinema.denoiser.keeping); 0 takes nothing. `parts_apart`: in which share of the steps the parts
    of a prompt are denoised each by itself (kinema.denoiser.parts); 0: a prompt is one whole.
    `motion_guidance`: how hard prompts are pushed away from the same with everything at rest, while it is
    decided what moves (kinema.diffusion.guidance); 0 is off, as it is for clips with given frames.
    `virtual_camera`: what a prompt says of the camera is done by one that moves over a larger video, not by
    the network.
    """

    height: int
    width: int
    frames: int
    fps: float
    steps: int
    guidance_scale: float
    guidance_first: float | None = None
    guidance_shape: GuidanceShape = "linear"
    guidance_given: float | None = None
    keep_given: float = 0.0
    parts_apart: float = 0.0
    motion_guidance: float = 0.0
    virtual_camera: bool = False


@dataclass(frozen=True, kw_only=True)
class TrainedOn:
    """The facts of the training that made the model."""

    dataset: str
    clips: int
    steps: int
    samples: int
    buckets: tuple[str, ...] = ()


@dataclass(kw_only=True)
class Model:
    """Ready to denoise; modules are where `to` put them.

    `without_lora` is the network before LoRAs were merged into it, where guidance needs it.
    """

    network: Network
    process: Process
    autoencoder: Autoencoder
    text_encoder: TextEncoder
    sampling: SamplingDefaults
    trained_on: TrainedOn
    preset: Preset = "kinema"
    image_encoder: ImageEncoder | None = None
    motion: MotionMap | None = None
    without_lora: Network | None = None

    @property
    def conventions(self) -> Conventions:
        """What the network was taught that its weights do not show."""
        return CONVENTIONS[self.preset]

    @property
    def task(self) -> Task:
        """What the network makes video from; a transformer is given frames in their place."""
        return self.network.config.task if isinstance(self.network, VideoUNet) else "text-to-video"

    @property
    def parts(self) -> tuple[object, ...]:
        """Everything that computes."""
        return self.network, self.without_lora, self.autoencoder, self.text_encoder, self.image_encoder

    def to(self, device: torch.device | str, *, offloaded: bool = False) -> Model:
        """Move every module; returns itself. `offloaded`: all but the network only while they work."""
        for part in self.parts:
            if isinstance(part, nn.Module):
                if offloaded and part not in (self.network, self.without_lora):
                    offload(part, device)
                else:
                    part.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device


def save_model(
    folder: Path,
    model: Model,
    average: Mapping[str, Mapping[str, Tensor]] | None = None,
    network: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the model folder; model.toml last, so that a folder with one is whole.

    `average` holds averaged weights by part (`network`, `text_encoder`, `image_encoder`); they go to `ema/`.
    `network` are the network's weights where they are not those that it has now.
    """
    write_tensors(folder / _NETWORK / _TENSORS, model.network.state_dict() if network is None else network)
    for part, tensors in (average or {}).items():
        write_tensors(folder / _AVERAGE / f"{part}.safetensors", tensors)
    write_description(folder, model)


def write_description(folder: Path, model: Model) -> None:
    """Everything of a model folder but the weights of the network; its tensors may be on the meta device."""
    write_json(folder / _NETWORK / _CONFIG, as_record(model.network.config))
    record = {
        "kinema": __version__,
        "preset": model.preset,
        "network": {"kind": model.network.config.kind, "folder": _NETWORK},
        "process": as_record(model.process),
        "autoencoder": store_autoencoder(folder, _VAE, model.autoencoder),
        "text_encoder": store_text_encoder(folder, _TEXT, model.text_encoder),
        **_optional(folder, model),
        "sampling": as_record(model.sampling),
        "trained_on": as_record(model.trained_on),
    }
    write_text(folder / _MODEL, tomli_w.dumps(_without_none(record)))


def _optional(folder: Path, model: Model) -> dict[str, Any]:
    """What not every model has."""
    record = dict[str, Any]()
    if model.image_encoder is not None:
        record["image_encoder"] = store_image_encoder(folder, _IMAGE, model.image_encoder)
    if model.motion is not None:
        record["motion"] = as_record(model.motion)
    return record


def _lay_on(folder: Path, network: Network, lora: Path, grain: int | None) -> None:
    """Keep a LoRA beside the weights of a model folder, in half precision; loading the model merges it."""
    added = read_lora(lora, network).half()
    if grain is not None:
        _round(added, grain)
    write_adapter(folder / FOLDER, added)


def load_model(folder: Path, *, ema: bool = True) -> Model:
    """Read a model folder; `ema` prefers the averaged weights where there are any. Ready for sampling.

    A LoRA that lies in the folder beside the weights is merged into them.
    """
    record = _read_record(folder)
    source = str(folder / _MODEL)
    try:
        model = Model(
            network=build_network(_network_config(folder / record["network"]["folder"] / _CONFIG)),
            process=_process(record["process"], f"{source} [process]"),
            autoencoder=open_autoencoder(folder, record["autoencoder"]),
            text_encoder=open_text_encoder(folder, record["text_encoder"]),
            sampling=from_record(SamplingDefaults, record["sampling"], f"{source} [sampling]"),
            trained_on=from_record(TrainedOn, record["trained_on"], f"{source} [trained_on]"),
            preset=_preset(record.get("preset", "kinema"), source),
            image_encoder=open_image_encoder(folder, record[_IMAGE]) if _IMAGE in record else None,
            motion=from_record(MotionMap, record["motion"], f"{source} [motion]")
            if "motion" in record
            else None,
        )
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{source} lacks {error}; it is not a whole model description") from error
    _fill(folder, folder / record["network"]["folder"] / _TENSORS, model, ema)
    if (folder / FOLDER).is_dir():
        merge_loras(model.network, [str(folder)])
    for part in model.parts:
        if isinstance(part, nn.Module):
            part.eval().requires_grad_(False)
    return model


def pack_model(
    folder: Path,
    target: Path,
    language: Language | None = None,
    grain: int | None = None,
    lora: Path | None = None,
) -> Model:
    """Write a small copy to hand on: the averaged weights alone, in half precision where they are large.

    `lora` is kept beside them: they stay as they are to the bit, and need not be handed on again.

    `language` is what its text encoder is to know besides (see `WordTextConfig`). With `grain` the
    network's matrices are rounded to steps of at most the `grain`th part of their standard deviation: it
    takes the same room, and compresses well. Raises `OutputError` when `target` is in use.
    """
    if target.is_dir() and any(target.iterdir()):
        raise OutputError(f"{target} is not empty; name another folder")
    model = load_model(folder)
    if language is not None:
        if not isinstance(model.text_encoder, WordTextEncoder):
            raise CheckpointError(f"{folder}: phrases are for word-level text encoders; leave them out")
        model.text_encoder.learn(language)
    for part in (model.network, model.text_encoder):
        if isinstance(part, nn.Module):
            part.half()
    if grain is not None:
        _round(model.network, grain)
    save_model(target, model)
    if lora is not None:
        _lay_on(target, model.network, lora, grain)
    return model


@torch.no_grad()
def _round(network: nn.Module, grain: int) -> None:
    """Steps are powers of two: then the last bits of half precision are zero."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            wide = parameter.float()
            step = 2.0 ** math.floor(math.log2(max(float(wide.std()), 1e-12) / grain))
            parameter.copy_((wide / step).round() * step)


def model_hash(folder: Path) -> str:
    """SHA-256 over the folder's description and weights: the same model has the same hash anywhere."""
    _read_record(folder)
    digest = hashlib.sha256()
    parts = [folder / _MODEL]
    for name in (_NETWORK, _AVERAGE, _VAE, _TEXT, _IMAGE, FOLDER):
        parts += sorted(path for path in (folder / name).rglob("*") if path.is_file())
    for path in parts:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(folder).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _fill(folder: Path, network: Path, model: Model, ema: bool) -> None:
    averaged = folder / _AVERAGE / "network.safetensors"
    path = averaged if ema and averaged.is_file() else network
    fill_module(model.network, read_tensors(path), str(path))
    for name, part in ((_TEXT, model.text_encoder), (_IMAGE, model.image_encoder)):
        path = folder / _AVERAGE / f"{name}.safetensors"
        if ema and path.is_file() and isinstance(part, nn.Module):
            fill_module(part, read_tensors(path), str(path))


def network_config(folder: Path) -> NetworkConfig:
    """The config of a model folder's network."""
    return _network_config(folder / _read_record(folder)["network"]["folder"] / _CONFIG)


def _preset(name: Any, source: str) -> Preset:  # noqa: ANN401 - whatever the file holds
    if name not in CONVENTIONS:
        raise CheckpointError(f"{source}: unknown preset {name!r}; known are {', '.join(CONVENTIONS)}")
    known: Preset = name
    return known


def _process(record: Mapping[str, Any], source: str) -> Process:
    match record["kind"]:
        case "iddpm":
            return from_record(IDDPMConfig, record, source)
        case "rectified-flow":
            return from_record(RectifiedFlowConfig, record, source)
        case "edm":
            return from_record(EDMConfig, record, source)
        case kind:
            raise CheckpointError(
                f"{source}: unknown process kind {kind!r}; known are iddpm, rectified-flow, edm"
            )


def _network_config(path: Path) -> NetworkConfig:
    record = read_json(path)
    match record.get("kind", ""):
        case "stdit2":
            return from_record(STDiT2Config, record, str(path))
        case "video-unet":
            return from_record(VideoUNetConfig, record, str(path))
        case kind:
            raise CheckpointError(f"{path}: unknown network kind {kind!r}; known are stdit2, video-unet")


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / _MODEL
    if not path.is_file() and (folder / "lora").is_dir():
        raise CheckpointError(f"{folder} holds a LoRA; name the model it is laid on, and this with --lora")
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is not a model folder (no {_MODEL}); make one with: kinema train --out {folder}"
        )
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def _without_none(record: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: an absent key is the default."""
    return {
        key: _without_none(value) if isinstance(value, Mapping) else value
        for key, value in record.items()
        if value is not None
    }
