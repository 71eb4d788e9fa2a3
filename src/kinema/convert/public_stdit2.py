"""The public layouts of ST-DiT-2 and of the image network that it grows from, as tensors and configs."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from kinema.checkpoint import check_fits, from_record, read_json, read_tensors
from kinema.errors import CheckpointError
from kinema.nn import STDiT2Config, build_network

_log = logging.getLogger(__name__)

TENSORS, CONFIG = "model.safetensors", "config.json"
NULL_CAPTION = "y_embedder.y_embedding"
LEGACY = ("pos_embed", "pos_embed_temporal")
"""Tables of positions that old checkpoints hold; they are computed now."""

FIELDS = {
    "depth": "depth",
    "hidden_size": "hidden",
    "num_heads": "heads",
    "patch_size": "patch_size",
    "in_channels": "in_channels",
    "mlp_ratio": "mlp_ratio",
    "caption_channels": "caption_channels",
    "model_max_length": "max_tokens",
    "input_sq_size": "input_sq_size",
    "qk_norm": "qk_norm",
    "pred_sigma": "learned_variance",
    "class_dropout_prob": "caption_drop",
}
"""The public config's names, and ours."""
_DEFAULTS = {"model_max_length": 120, "input_sq_size": 32, "qk_norm": False}
"""What the public class takes where its config is silent, and ours does not."""
_WITHOUT_EFFECT = {
    "architectures",
    "auto_map",
    "drop_path",
    "dtype",
    "enable_flash_attn",
    "enable_flashattn",
    "enable_layernorm_kernel",
    "enable_sequence_parallelism",
    "freeze",
    "input_size",
    "model_type",
    "no_temporal_pos_emb",
    "torch_dtype",
    "transformers_version",
}
_GROWN = re.compile(
    r"attn_temp\.|scale_shift_table_temporal$|^t_block_temp\.|^rope\.|^f[lp]s?_embedder\.|\.[qk]_norm\."
    r"|^csize_embedder\.|^ar_embedder\."
)
"""What an image network does not have."""


@dataclass(frozen=True)
class Public:
    """A checkpoint as published. `config` is None where it has none."""

    file: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    config: dict[str, Any] | None

    @property
    def is_image_network(self) -> bool:
        """Whether its patches have no time axis."""
        return self.tensors["x_embedder.proj.weight"].ndim == 4


def read_public(path: Path) -> Public:
    """A folder with model.safetensors (and config.json), or the safetensors file itself."""
    file = _weights_file(path)
    tensors = read_tensors(file)
    if "x_embedder.proj.weight" not in tensors:
        shown = ", ".join(sorted(tensors)[:3]) or "no tensor"
        raise CheckpointError(
            f"{file} is neither ST-DiT-2 nor PixArt: it lacks x_embedder.proj.weight (it holds {shown}, ...)"
        )
    with safetensors.safe_open(file, framework="pt") as opened:
        metadata = dict(opened.metadata() or {})
    beside = file.with_name(CONFIG)
    return Public(file, tensors, metadata, read_json(beside) if beside.is_file() else None)


def _weights_file(path: Path) -> Path:
    if path.suffix in {".pth", ".pt", ".bin", ".ckpt"}:
        raise CheckpointError(
            f"{path} may be a pickle, which can run code when it is read; "
            "save its state dict as safetensors and convert that"
        )
    if path.is_file():
        return path
    if not path.is_dir():
        raise CheckpointError(f"{path} does not exist; name a folder with {TENSORS} and {CONFIG}")
    if (path / TENSORS).is_file():
        return path / TENSORS
    found = sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        raise CheckpointError(f"{path} lacks {TENSORS}; name the safetensors file of the network")
    return found[0]


def public_config(record: Mapping[str, Any], source: str) -> STDiT2Config:
    """Our config of a public one, with the published behaviour."""
    unknown = sorted(record.keys() - FIELDS.keys() - _WITHOUT_EFFECT - {"qk_norm_legacy"})
    if unknown:
        _log.warning("%s: fields without meaning here: %s", source, ", ".join(unknown))
    given = {name: record.get(name, _DEFAULTS.get(name)) for name in FIELDS}
    ours = {FIELDS[name]: value for name, value in given.items() if value is not None}
    published = STDiT2Config.xl2()
    flags = {
        "rope_first": record.get("qk_norm_legacy", published.rope_first),
        "final_layer_published": published.final_layer_published,
        "shared_position_scale": published.shared_position_scale,
    }
    return from_record(STDiT2Config, ours | flags, source)


def public_record(config: STDiT2Config) -> dict[str, Any]:
    """The public config of ours; raises `CheckpointError` for behaviour that the public layout cannot say."""
    published = STDiT2Config.xl2()
    for flag in ("rope_first", "final_layer_published", "shared_position_scale"):
        if getattr(config, flag) != getattr(published, flag):
            raise CheckpointError(
                f"the network has {flag} = {str(getattr(config, flag)).lower()}, which Open-Sora 1.1 cannot "
                "run: only models with the preset published can be written in its layout"
            )
    values = {name: getattr(config, ours) for name, ours in FIELDS.items()}
    return {"architectures": ["STDiT2"], "model_type": "STDiT2", **values}


def video_tensors(public: Public, config: STDiT2Config) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a public video network for `config`, checked, and what was done to them."""
    tensors, done = _adapted(public.tensors, config)
    with torch.device("meta"):
        network = build_network(config)
    check_fits(network, tensors, str(public.file))
    return tensors, done


def grown_tensors(public: Public, config: STDiT2Config) -> tuple[dict[str, Tensor], list[str]]:
    """An image network's tensors in a video network: time starts as the identity.

    Each frame passes as in the image network, because the output of attention over time is zero. Where
    the image network was not told its size, the embedding of the size is zero as well.
    """
    tensors, done = _adapted(public.tensors, config)
    tensors["x_embedder.proj.weight"] = tensors["x_embedder.proj.weight"][:, :, None]
    network = build_network(config)
    own = network.state_dict()
    fresh = [key for key in own if key not in tensors and (_GROWN.search(key) or key == NULL_CAPTION)]
    whole = {key: own[key] for key in fresh} | tensors
    for key in fresh:
        if key.startswith(("csize_embedder.mlp.2", "ar_embedder.mlp.2")):
            whole[key] = torch.zeros_like(own[key])
    check_fits(network, whole, str(public.file))
    done.append(f"new parts: {len(fresh)} tensors, time starts as the identity")
    return whole, done


def image_config(public: Public, max_tokens: int, *, qk_norm: bool) -> STDiT2Config:
    """The config of an image network by the shapes of its tensors; heads come from its config.json, or 16."""
    tensors, record = public.tensors, public.config or {}
    for key in ("y_embedder.y_proj.fc1.weight", "final_layer.linear.weight", "blocks.0.mlp.fc1.weight"):
        if key not in tensors:
            raise CheckpointError(f"{public.file} lacks {key}: it is not in PixArt's layout")
    hidden, channels, *patch = tensors["x_embedder.proj.weight"].shape
    blocks = {key.split(".")[1] for key in tensors if key.startswith("blocks.")}
    outputs = tensors["final_layer.linear.weight"].shape[0] // (patch[0] * patch[1])
    record = {
        "depth": len(blocks),
        "hidden": hidden,
        "heads": record.get("num_heads", 16),
        "patch_size": (1, *patch),
        "in_channels": channels,
        "mlp_ratio": tensors["blocks.0.mlp.fc1.weight"].shape[0] / hidden,
        "caption_channels": tensors["y_embedder.y_proj.fc1.weight"].shape[1],
        "max_tokens": max_tokens,
        "input_sq_size": record.get("input_sq_size", 512),
        "qk_norm": qk_norm,
        "learned_variance": outputs == 2 * channels,
    }
    return from_record(STDiT2Config, record, str(public.file))


def _adapted(tensors: Mapping[str, Tensor], config: STDiT2Config) -> tuple[dict[str, Tensor], list[str]]:
    """Without legacy tables, and with as many null tokens as the network takes."""
    done = [f"left out {key}" for key in LEGACY if key in tensors]
    kept = {key: tensor for key, tensor in tensors.items() if key not in LEGACY}
    null = kept.get(NULL_CAPTION)
    if null is not None and null.ndim == 2 and len(null) != config.max_tokens:
        done.append(f"null caption: {len(null)} tokens made {config.max_tokens}")
        kept[NULL_CAPTION] = resized_null(null, config.max_tokens)
    return kept, done


def resized_null(null: Tensor, tokens: int) -> Tensor:
    """Cut, or extended by repeating its last row."""
    missing = tokens - len(null)
    return torch.cat([null, null[-1:].expand(missing, -1)]) if missing > 0 else null[:tokens]
