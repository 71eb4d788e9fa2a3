"""Pipelines in diffusers' layout to model folders and back: Stable Video Diffusion, Stable Diffusion 2.1."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.checkpoint import read_json, write_json
from kinema.convert.svd import inflate, load_video_unet, save_video_unet
from kinema.diffusion.edm import EDMConfig
from kinema.encoders.autoencoder import PublishedTemporalAutoencoder, TemporalAutoencoderConfig
from kinema.encoders.autoencoder_kl import FrameAutoencoder, FrameAutoencoderConfig
from kinema.encoders.clip_text import ClipTextConfig, ClipTextEncoder
from kinema.encoders.pictures import ClipImageConfig, ClipImageEncoder
from kinema.encoders.protocols import NoText
from kinema.errors import CheckpointError, OutputError
from kinema.files import writable_folder
from kinema.model import Model, SamplingDefaults, TrainedOn, load_model, save_model
from kinema.nn import VideoUNet

_VIDEO, _IMAGE = "UNetSpatioTemporalConditionModel", "UNet2DConditionModel"
_PREDICTIONS = {"v_prediction": "velocity", "epsilon": "noise"}
_IMAGE_SIGMAS = (0.0291675, 14.614641)
"""Of Stable Diffusion's 1000 discrete steps, least and most."""


@dataclass(frozen=True, kw_only=True)
class _Pipeline:
    """A folder of components."""

    path: Path

    def config(self, component: str) -> dict[str, Any]:
        """A component's config.json. Raises `CheckpointError` naming what is missing."""
        file = self.path / component / "config.json"
        if not file.is_file():
            raise CheckpointError(
                f"{file} is missing; expected a pipeline of diffusers with a folder {component}"
            )
        return read_json(file)

    def scheduler(self) -> dict[str, Any]:
        """The scheduler's settings, empty where the folder has none."""
        file = self.path / "scheduler" / "scheduler_config.json"
        return read_json(file) if file.is_file() else {}

    def placed(self, out: Path, names: tuple[str, ...], *, embed: bool) -> str:
        """Where the encoders are: here, or copied into the model folder."""
        if not embed:
            return str(self.path.resolve())
        for name in names:
            shutil.copytree(self.path / name, out / name, dirs_exist_ok=True)
        return str(out)


def convert_svd(path: Path, out: Path, *, embed: bool = False) -> dict[str, Any]:
    """Write a model folder from Stable Video Diffusion's, or begin one from Stable Diffusion 2.1's.

    The first moves pictures as released. The second is inflated: a video network from texts whose frames are
    those of the image network until it is trained. Encoders are referred to, or copied with `embed`.
    """
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; name another folder")
    pipeline = _Pipeline(path=path)
    kind = pipeline.config("unet").get("_class_name")
    writable_folder(out)
    match kind:
        case "UNetSpatioTemporalConditionModel":
            model = _image_to_video(pipeline, out, embed=embed)
        case "UNet2DConditionModel":
            model = _inflated(pipeline, out, embed=embed)
        case _:
            raise CheckpointError(
                f"{path / 'unet' / 'config.json'} describes {kind!r}; expected {_VIDEO} or {_IMAGE}"
            )
    save_model(out, model)
    return {
        "out": str(out),
        "layout": kind,
        "task": model.task,
        "preset": model.preset,
        "parameters": sum(parameter.numel() for parameter in model.network.parameters()),
        "frames": model.sampling.frames,
    }


def export_svd(model_folder: Path, out: Path, *, ema: bool = True) -> dict[str, Any]:
    """Write a model that moves pictures as a folder that diffusers' StableVideoDiffusionPipeline loads."""
    model = load_model(model_folder, ema=ema)
    encoders = _published_encoders(model, model_folder)
    if out.is_dir() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty; name another folder")
    writable_folder(out)
    assert isinstance(model.network, VideoUNet)
    assert isinstance(model.process, EDMConfig)
    save_video_unet(model.network, out / "unet", frames=model.sampling.frames)
    for name, source in encoders.items():
        shutil.copytree(source, out / name)
    write_json(out / "scheduler" / "scheduler_config.json", _scheduler_record(model.process))
    write_json(out / "feature_extractor" / "preprocessor_config.json", _FEATURES)
    write_json(out / "model_index.json", _INDEX)
    return {"out": str(out), "layout": _VIDEO, "frames": model.sampling.frames}


def _image_to_video(pipeline: _Pipeline, out: Path, *, embed: bool) -> Model:
    record, vae = pipeline.config("unet"), pipeline.config("vae")
    width = _number(pipeline.config("image_encoder"), "projection_dim", 512, "image_encoder")
    scheduler = pipeline.scheduler()
    network = load_video_unet(pipeline.path / "unet")
    if network.config.task != "image-to-video":
        raise CheckpointError(
            f"{pipeline.path / 'unet'}: in_channels is {network.config.in_channels}, expected "
            f"{2 * network.config.out_channels}: noised latents and those of the picture"
        )
    if width != network.config.context_width:
        raise CheckpointError(
            f"{pipeline.path}: image_encoder has projection_dim {width}, unet has cross_attention_dim "
            f"{network.config.context_width}"
        )
    source = pipeline.placed(out, ("vae", "image_encoder"), embed=embed)
    channels, factor = _vae_sizes(vae)
    autoencoder = TemporalAutoencoderConfig(source=source, latent_channels=channels, spatial_factor=factor)
    frames = _number(record, "num_frames", 14, "unet")
    return Model(
        network=network.eval(),
        process=EDMConfig(
            sigma_min=float(scheduler.get("sigma_min") or 0.002),
            sigma_max=float(scheduler.get("sigma_max") or 700.0),
        ),
        autoencoder=PublishedTemporalAutoencoder(autoencoder),
        text_encoder=NoText(),
        image_encoder=ClipImageEncoder(ClipImageConfig(source=source, width=width)),
        sampling=SamplingDefaults(
            height=576,
            width=1024,
            frames=frames,
            fps=7.0,
            steps=25,
            guidance_first=1.0 if frames < 20 else 1.5,
            guidance_scale=2.5 if frames < 20 else 3.0,
        ),
        trained_on=_from(pipeline),
        preset="svd",
    )


def _inflated(pipeline: _Pipeline, out: Path, *, embed: bool) -> Model:
    vae, text = pipeline.config("vae"), pipeline.config("text_encoder")
    told = pipeline.scheduler().get("prediction_type", "epsilon")
    if told not in _PREDICTIONS:
        raise CheckpointError(
            f"{pipeline.path / 'scheduler'}: prediction_type is {told!r}; expected v_prediction or epsilon"
        )
    network = inflate(pipeline.path / "unet")
    source = pipeline.placed(out, ("vae", "text_encoder", "tokenizer"), embed=embed)
    width = _number(text, "hidden_size", 512, "text_encoder")
    if width != network.config.context_width:
        raise CheckpointError(
            f"{pipeline.path}: text_encoder has hidden_size {width}, unet has cross_attention_dim "
            f"{network.config.context_width}"
        )
    channels, factor = _vae_sizes(vae)
    low, high = _IMAGE_SIGMAS
    return Model(
        network=network.eval(),
        process=EDMConfig(
            prediction="velocity" if told == "v_prediction" else "noise",
            told="timestep",
            sigma_min=low,
            sigma_max=high,
        ),
        autoencoder=FrameAutoencoder(
            FrameAutoencoderConfig(
                source=source,
                subfolder="vae",
                scale=float(vae.get("scaling_factor", 0.18215)),
                latent_channels=channels,
                spatial_factor=factor,
            )
        ),
        text_encoder=ClipTextEncoder(
            ClipTextConfig(
                source=source,
                width=width,
                max_tokens=_number(text, "max_position_embeddings", 77, "text_encoder"),
            )
        ),
        sampling=SamplingDefaults(height=512, width=512, frames=1, fps=7.0, steps=50, guidance_scale=7.5),
        trained_on=_from(pipeline),
    )


def _from(pipeline: _Pipeline) -> TrainedOn:
    return TrainedOn(dataset=pipeline.path.name, clips=0, steps=0, samples=0)


def _vae_sizes(record: Mapping[str, Any]) -> tuple[int, int]:
    """Channels of the latents, pixels a latent cell."""
    levels = record.get("block_out_channels")
    if not isinstance(levels, list) or not levels:
        raise CheckpointError(f"vae/config.json: block_out_channels must be a list, got {levels!r}")
    return _number(record, "latent_channels", 4, "vae"), 1 << (len(levels) - 1)


def _number(record: Mapping[str, Any], key: str, default: int, component: str) -> int:
    value = record.get(key, default)
    if not isinstance(value, int):
        raise CheckpointError(f"{component}/config.json: {key} must be a whole number, got {value!r}")
    return value


def _published_encoders(model: Model, folder: Path) -> dict[str, Path]:
    """The folders of the encoders, which must be those of the pipeline."""
    vae, image = model.autoencoder, model.image_encoder
    if not isinstance(vae, PublishedTemporalAutoencoder) or not isinstance(image, ClipImageEncoder):
        raise CheckpointError(
            f"{folder}: its encoders are {type(vae).__name__} and {type(image).__name__}; diffusers' "
            "pipeline needs a temporal autoencoder (temporal-kl) and CLIP (clip-image)"
        )
    if model.task != "image-to-video" or not isinstance(model.process, EDMConfig):
        raise CheckpointError(f"{folder}: diffusers' pipeline moves pictures; this model is of {model.task}")
    found = {
        "vae": Path(vae.config.source) / vae.config.subfolder,
        "image_encoder": Path(image.config.source) / image.config.subfolder,
    }
    for name, source in found.items():
        if not source.is_dir():
            raise CheckpointError(f"{source} is not a folder; {name} can only be copied from one")
    return found


def _scheduler_record(process: EDMConfig) -> dict[str, Any]:
    return {
        "_class_name": "EulerDiscreteScheduler",
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "interpolation_type": "linear",
        "num_train_timesteps": 1000,
        "prediction_type": "v_prediction",
        "sigma_max": process.sigma_max,
        "sigma_min": process.sigma_min,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "timestep_type": "continuous",
        "trained_betas": None,
        "use_karras_sigmas": True,
    }


_FEATURES: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "rescale_factor": 1 / 255,
    "size": {"shortest_edge": 224},
}
_INDEX: dict[str, Any] = {
    "_class_name": "StableVideoDiffusionPipeline",
    "_diffusers_version": "0.24.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNetSpatioTemporalConditionModel"],
    "vae": ["diffusers", "AutoencoderKLTemporalDecoder"],
}
