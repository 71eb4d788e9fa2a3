"""Weights of Stable Video Diffusion: original key names, released folders, inflation of an image network."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kinema.errors import CheckpointError
from kinema.files import atomic_path, write_text
from kinema.nn.growing import widened
from kinema.nn.video_unet import Condition, VideoUNet, VideoUNetConfig, image_to_video_conditions

_DOWN = ("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal")
_UP = ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal")

_RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_TRANSFORMER = {
    "time_stack": "temporal_transformer_blocks",
    "time_pos_embed.0": "time_pos_embed.linear_1",
    "time_pos_embed.2": "time_pos_embed.linear_2",
}
_TOP = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}

ZERO_AT_INFLATION = re.compile(
    r"(temporal_res_block\.conv2|time_pos_embed\.linear_2|^add_embedding\.linear_2"
    r"|temporal_transformer_blocks\.\d+\.(ff_in\.net\.2|ff\.net\.2|attn[12]\.to_out\.0))\.(weight|bias)$"
)
"""The outputs that start at zero: with them, every frame of the video network is the image network's."""


def original_key_map(config: VideoUNetConfig) -> dict[str, str]:
    """Every key of the original implementation to ours (diffusers'), for a network of this config."""
    with torch.device("meta"):
        names = list(VideoUNet(config).state_dict())
    modules = _original_modules(config)
    return {_original_key(name, modules): name for name in names}


def _original_modules(config: VideoUNetConfig) -> dict[str, str]:
    """Our prefix of each residual block, transformer and resampler -> the original's."""
    modules = {
        "mid_block.resnets.0": "middle_block.0",
        "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    }
    levels, index = len(config.channels), 1
    for level in range(levels):
        for layer in range(config.layers):
            modules[f"down_blocks.{level}.resnets.{layer}"] = f"input_blocks.{index}.0"
            modules[f"down_blocks.{level}.attentions.{layer}"] = f"input_blocks.{index}.1"
            index += 1
        modules[f"down_blocks.{level}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
        index += 1
    index = 0
    for block, level in enumerate(reversed(range(levels))):
        for layer in range(config.layers + 1):
            modules[f"up_blocks.{block}.resnets.{layer}"] = f"output_blocks.{index}.0"
            modules[f"up_blocks.{block}.attentions.{layer}"] = f"output_blocks.{index}.1"
            index += 1
        place = 2 if config.attention[level] else 1
        modules[f"up_blocks.{block}.upsamplers.0.conv"] = f"output_blocks.{index - 1}.{place}.conv"
    return modules


def _original_key(name: str, modules: Mapping[str, str]) -> str:
    for theirs, ours in _TOP.items():
        if name.startswith(f"{ours}."):
            return name.replace(ours, theirs, 1)
    prefix = next(ours for ours in modules if name.startswith(f"{ours}."))
    rest = name.removeprefix(f"{prefix}.")
    if ".resnets." in prefix:
        rest = _res_block_key(rest)
    else:
        for theirs, ours in _TRANSFORMER.items():
            if rest.startswith(f"{ours}."):
                rest = rest.replace(ours, theirs, 1)
    return f"{modules[prefix]}.{rest}"


def _res_block_key(rest: str) -> str:
    rest = rest.removeprefix("spatial_res_block.").replace("temporal_res_block.", "time_stack.")
    for theirs, ours in _RES_BLOCK.items():
        rest = re.sub(rf"(^|\.){ours}\.", rf"\g<1>{theirs}.", rest)
    return rest


def from_original(state: Mapping[str, Tensor], config: VideoUNetConfig) -> dict[str, Tensor]:
    """Rename an original state dict (keys with or without `model.diffusion_model.`) to ours."""
    prefix = "model.diffusion_model."
    if any(key.startswith(prefix) for key in state):
        state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    key_map = original_key_map(config)
    _compare_keys(state.keys(), key_map.keys(), "original weights")
    return {key_map[key]: value for key, value in state.items()}


def config_from_diffusers(
    config: Mapping[str, Any], conditions: tuple[Condition, ...] | None = None
) -> VideoUNetConfig:
    """Our config from the config.json of diffusers' UNetSpatioTemporalConditionModel.

    It names no conditions: three are fps, motion and augmentation, any others must be given.
    """
    blocks = tuple(config.get("down_block_types", (_DOWN[1],) * 3 + (_DOWN[0],)))
    unknown = set(blocks) - set(_DOWN)
    if unknown:
        raise CheckpointError(f"down_block_types has {sorted(unknown)}; expected {' or '.join(_DOWN)}")
    width = int(config.get("addition_time_embed_dim", 256))
    total = int(config.get("projection_class_embeddings_input_dim", 768))
    channels = tuple(config.get("block_out_channels", (320, 640, 1280, 1280)))
    return _checked_config(
        in_channels=int(config.get("in_channels", 8)),
        out_channels=int(config.get("out_channels", 4)),
        channels=channels,
        layers=_single(config, "layers_per_block", 2),
        heads=_per_level(config, "num_attention_heads", (5, 10, 20, 20), len(channels)),
        attention=tuple(block == _DOWN[1] for block in blocks),
        transformer_depth=_single(config, "transformer_layers_per_block", 1),
        context_width=_single(config, "cross_attention_dim", 1024),
        conditions=_conditions(total, width, conditions),
    )


def _checked_config(**sizes: Any) -> VideoUNetConfig:  # noqa: ANN401 (what the file holds)
    try:
        return VideoUNetConfig(**sizes)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"config.json does not describe a video UNet: {error}") from error


def _conditions(total: int, width: int, named: tuple[Condition, ...] | None) -> tuple[Condition, ...]:
    given = image_to_video_conditions(width) if named is None else named
    if total != sum(condition.width for condition in given):
        raise CheckpointError(
            f"projection_class_embeddings_input_dim is {total}, addition_time_embed_dim {width}; "
            f"the conditions {', '.join(condition.name for condition in given)} are "
            f"{sum(condition.width for condition in given)} wide together: give this network's `conditions`"
        )
    return given


def _single(config: Mapping[str, Any], key: str, default: int) -> int:
    value = config.get(key, default)
    values = set(value) if isinstance(value, list | tuple) else {value}
    if len(values) != 1 or not all(isinstance(one, int) for one in values):
        raise CheckpointError(f"{key} must be one number for all levels, got {value}")
    return int(values.pop())


def _per_level(config: Mapping[str, Any], key: str, default: Iterable[int], levels: int) -> tuple[int, ...]:
    value = config.get(key, tuple(default))
    return tuple(value) if isinstance(value, list | tuple) else (int(value),) * levels


def config_to_diffusers(config: VideoUNetConfig, frames: int = 25) -> dict[str, Any]:
    """The config.json with which diffusers loads our weights; `frames` is only its default clip length."""
    widths = {condition.width for condition in config.conditions}
    if len(widths) != 1 or any(condition.angle for condition in config.conditions):
        raise CheckpointError("diffusers' class needs conditions of one width and no angles")
    return {
        "_class_name": "UNetSpatioTemporalConditionModel",
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "down_block_types": [_DOWN[attention] for attention in config.attention],
        "up_block_types": [_UP[attention] for attention in reversed(config.attention)],
        "block_out_channels": list(config.channels),
        "addition_time_embed_dim": widths.pop(),
        "projection_class_embeddings_input_dim": config.condition_width,
        "layers_per_block": config.layers,
        "cross_attention_dim": config.context_width,
        "transformer_layers_per_block": config.transformer_depth,
        "num_attention_heads": list(config.heads),
        "num_frames": frames,
        "sample_size": None,
    }


def load_video_unet(
    folder: Path, *, dtype: torch.dtype = torch.float32, conditions: tuple[Condition, ...] | None = None
) -> VideoUNet:
    """The network from a released `unet` folder: config.json and safetensors, sharded or not, also fp16."""
    config = config_from_diffusers(_read_json(folder / "config.json"), conditions)
    with torch.device("meta"):
        network = VideoUNet(config)
    state = {key: value.to(dtype) for key, value in read_weights(folder).items()}
    load_exactly(network, state, str(folder))
    return network


def save_video_unet(network: VideoUNet, folder: Path, frames: int = 25) -> None:
    """Write a `unet` folder that diffusers loads; `frames` is its default clip length."""
    record = config_to_diffusers(network.config, frames)
    write_text(folder / "config.json", json.dumps(record, indent=2) + "\n")
    state = {key: value.detach().contiguous() for key, value in network.state_dict().items()}
    with atomic_path(folder / "diffusion_pytorch_model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a diffusers component folder; full precision is preferred to the fp16 variant."""
    state: dict[str, Tensor] = {}
    for file in _weight_files(folder):
        try:
            state |= load_file(file)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {file}: {error}; download it again") from error
    return state


def _weight_files(folder: Path) -> list[Path]:
    for variant in ("", ".fp16"):
        single = folder / f"diffusion_pytorch_model{variant}.safetensors"
        if single.is_file():
            return [single]
        index = folder / f"diffusion_pytorch_model.safetensors.index{variant}.json"
        if index.is_file():
            shards = _read_json(index).get("weight_map")
            if not isinstance(shards, dict):
                raise CheckpointError(f"{index} has no weight_map; download it again")
            return [folder / name for name in sorted(set(shards.values()))]
    raise CheckpointError(
        f"{folder} has no diffusion_pytorch_model.safetensors; expected the unet folder of a released model"
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}; expected a diffusers folder") from error
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path} is not JSON: {error}") from error
    return content


def load_exactly(network: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Give the network these tensors; a missing, unknown or misshapen key is an error that names it."""
    expected = network.state_dict()
    _compare_keys(state.keys(), expected.keys(), origin)
    for key, value in expected.items():
        if value.shape != state[key].shape:
            raise CheckpointError(
                f"{origin}: {key} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
            )
    network.load_state_dict(dict(state), assign=True)


def _compare_keys(found: Iterable[str], expected: Iterable[str], origin: str) -> None:
    found, expected = set(found), set(expected)
    missing, unknown = sorted(expected - found), sorted(found - expected)
    if missing:
        raise CheckpointError(f"{origin}: {len(missing)} keys are missing, first {missing[0]}")
    if unknown:
        raise CheckpointError(f"{origin}: {len(unknown)} keys are not of this network, first {unknown[0]}")


def inflate(
    folder: Path,
    *,
    in_channels: int | None = None,
    conditions: tuple[Condition, ...] | None = None,
    initialisation: Literal["identity", "random"] = "identity",
) -> VideoUNet:
    """A video network from an image `UNet2DConditionModel` folder (Stable Diffusion 2.1's layout).

    "identity": each frame's output starts as the image network's, whatever the mixes and conditions; the
    seven groups of zeroed outputs learn in the first step, everything behind them from the second. "random"
    leaves the new layers as they are initialised. Input channels beyond the image network's start at zero.
    The new layers are drawn from torch's global generator.
    """
    published = _read_json(folder / "config.json")
    state = read_weights(folder)
    config = config_from_image_network(published)
    network = VideoUNet(
        replace(
            config,
            in_channels=in_channels or config.in_channels,
            conditions=config.conditions if conditions is None else conditions,
        )
    )
    weights = network.state_dict()
    if initialisation == "identity":
        weights |= {key: torch.zeros_like(v) for key, v in weights.items() if ZERO_AT_INFLATION.search(key)}
    for key, value in state.items():
        weights[inflated_key(key)] = _widened(key, value, network.config.in_channels)
    load_exactly(network, weights, str(folder))
    return network


def inflated_key(key: str) -> str:
    """The video network's name of an image network's weight."""
    return re.sub(r"(\.resnets\.\d+\.)", r"\1spatial_res_block.", key)


def _widened(key: str, value: Tensor, in_channels: int) -> Tensor:
    value = value.float()
    if key == "conv_in.weight":
        return widened(value, in_channels)
    if key.endswith((".proj_in.weight", ".proj_out.weight")) and value.ndim == 4:
        return value[..., 0, 0]  # Stable Diffusion 1's 1x1 convolutions
    return value


def config_from_image_network(config: Mapping[str, Any]) -> VideoUNetConfig:
    """Our config from the config.json of an image `UNet2DConditionModel`."""
    known = {"DownBlock2D": False, "CrossAttnDownBlock2D": True}
    blocks = config.get("down_block_types", [])
    if not blocks or set(blocks) - set(known):
        raise CheckpointError(f"down_block_types must be of {sorted(known)}, got {blocks}")
    lacking = {"block_out_channels", "in_channels", "out_channels"} - config.keys()
    if lacking:
        raise CheckpointError(f"config.json of the image network lacks {', '.join(sorted(lacking))}")
    channels = tuple(config["block_out_channels"])
    # The published configs call the number of heads attention_head_dim.
    heads_key = "num_attention_heads" if config.get("num_attention_heads") else "attention_head_dim"
    return _checked_config(
        in_channels=int(config["in_channels"]),
        out_channels=int(config["out_channels"]),
        channels=channels,
        layers=_single(config, "layers_per_block", 2),
        heads=_per_level(config, heads_key, (8,), len(channels)),
        attention=tuple(known[block] for block in blocks),
        transformer_depth=_single(config, "transformer_layers_per_block", 1),
        context_width=_single(config, "cross_attention_dim", 1280),
    )


def diffusers_network(config: VideoUNetConfig) -> nn.Module:
    """diffusers' own class of the same sizes, with random weights."""
    from diffusers import UNetSpatioTemporalConditionModel

    network: nn.Module = UNetSpatioTemporalConditionModel.from_config(  # type: ignore[no-untyped-call]
        config_to_diffusers(config)
    )
    return network
