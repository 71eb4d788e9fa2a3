"""LoRA files: PEFT's folder layout and diffusers' single file, read and written.

PEFT: adapter_config.json and adapter_model.safetensors with keys `base_model.model.<layer>.lora_A.weight`.
diffusers: pytorch_lora_weights.safetensors with keys `unet.<layer>.lora_A.weight`; it holds no alpha, which
is therefore multiplied into B. Older spellings are read too: `lora.down`, `lora_down`,
`to_q_lora.down`, `.alpha`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from kinema.checkpoint import fill_module, read_json, read_tensors, write_json, write_tensors
from kinema.errors import CheckpointError
from kinema.files import file_sha256
from kinema.nn.lora import Addition, LoRA, check_fits, merge

Part = Literal["unet", "transformer"]
"""What diffusers calls the network that is adapted."""
FOLDER = "lora"
_PEFT_CONFIG, _PEFT, _DIFFUSERS = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "pytorch_lora_weights.safetensors",
)
_PREFIXES = ("base_model.model.", "unet.", "transformer.")
_OLD_NAME = re.compile(r"(?:\.processor)?\.(to_q|to_k|to_v|to_out)_lora$")
_SIDES = (
    (re.compile(r"\.lora_A(?:\.\w+)?\.weight$|\.lora\.down\.weight$|\.lora_down\.weight$"), "lora_A"),
    (re.compile(r"\.lora_B(?:\.\w+)?\.weight$|\.lora\.up\.weight$|\.lora_up\.weight$"), "lora_B"),
    (re.compile(r"(?<=_lora)\.down\.weight$"), "lora_A"),
    (re.compile(r"(?<=_lora)\.up\.weight$"), "lora_B"),
)
_NOT_PLAIN = {"use_dora": False, "bias": "none", "fan_in_fan_out": False, "modules_to_save": None}


def write_lora(folder: Path, lora: LoRA, *, part: Part, base: str = "") -> None:
    """Write both layouts into `folder`; `base` names the model that it was trained on."""
    write_adapter(folder, lora, base=base)
    tensors = {name: value.detach() for name, value in lora.state_dict().items()}
    folded = {name: _folded(name, value, lora) for name, value in tensors.items()}
    write_tensors(
        folder / _DIFFUSERS,
        {f"{part}.{name}": value for name, value in folded.items()},
        metadata={"format": "pt"},
    )


def write_adapter(folder: Path, lora: LoRA, *, base: str = "") -> None:
    """Write PEFT's layout alone."""
    tensors = {f"base_model.model.{name}": value.detach() for name, value in lora.state_dict().items()}
    write_tensors(folder / _PEFT, tensors)
    write_json(folder / _PEFT_CONFIG, _peft_config(lora, base))


def read_lora(path: Path, network: nn.Module) -> LoRA:
    """A LoRA for `network` from a file, a folder of either layout, or the folder of a run that made one.

    Raises `CheckpointError` naming the key, and both shapes where they differ.
    """
    file = lora_file(path)
    config = read_json(file.parent / _PEFT_CONFIG) if file.name == _PEFT else {}
    _refuse_other_kinds(config, file)
    tensors, alphas = _by_layer(read_tensors(file), file)
    lora = LoRA(_additions(tensors, alphas, config, file))
    try:
        check_fits(lora, network)
    except ValueError as error:
        raise CheckpointError(f"{file}: {error}") from error
    fill_module(lora, tensors, str(file))
    return lora


def lora_file(path: Path) -> Path:
    """The safetensors file that `path` means."""
    if path.is_file():
        return path
    for folder in (path, path / FOLDER):
        for name in (_PEFT, _DIFFUSERS):
            if (folder / name).is_file() and (name != _PEFT or (folder / _PEFT_CONFIG).is_file()):
                return folder / name
    raise CheckpointError(
        f"{path} holds no LoRA; expected {_PEFT_CONFIG} and {_PEFT}, or {_DIFFUSERS}, there or in {FOLDER}/"
    )


def _by_layer(raw: Mapping[str, Tensor], file: Path) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Tensors as `<layer>.lora_A.weight`, and the alphas that some files hold."""
    tensors, alphas = dict[str, Tensor](), dict[str, float]()
    for key, value in raw.items():
        name = key
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if name.endswith(".alpha"):
            alphas[name.removesuffix(".alpha")] = float(value)
            continue
        side = next((side for pattern, side in _SIDES if pattern.search(name)), None)
        if side is None:
            raise CheckpointError(f"{file} holds {key}, which is no part of a LoRA for linear layers")
        if value.ndim != 2:
            raise CheckpointError(
                f"{file}: {key} has shape {list(value.shape)}; expected the 2 axes of a linear layer"
            )
        pattern = next(pattern for pattern, _ in _SIDES if pattern.search(name))
        tensors[f"{_layer(pattern.sub('', name))}.{side}.weight"] = value.float()
    return tensors, alphas


def _layer(name: str) -> str:
    old = _OLD_NAME.search(name)
    if old is None:
        return name
    return f"{name[: old.start()]}.{'to_out.0' if old[1] == 'to_out' else old[1]}"


def _additions(
    tensors: Mapping[str, Tensor], alphas: Mapping[str, float], config: Mapping[str, Any], file: Path
) -> dict[str, Addition]:
    found = {}
    for key, down in tensors.items():
        if not key.endswith(".lora_A.weight"):
            continue
        name = key.removesuffix(".lora_A.weight")
        up = tensors.get(f"{name}.lora_B.weight")
        if up is None:
            raise CheckpointError(f"{file} lacks {name}.lora_B.weight, the other half of {key}")
        if up.shape[1] != down.shape[0]:
            raise CheckpointError(
                f"{file}: {name}.lora_A has shape {list(down.shape)} and lora_B {list(up.shape)}: two ranks"
            )
        rank = down.shape[0]
        alpha = alphas.get(name, _peft_alpha(name, rank, config))
        found[name] = Addition(inputs=down.shape[1], outputs=up.shape[0], rank=rank, alpha=alpha)
    halves = [key for key in tensors if key.removesuffix(".lora_B.weight") not in found and "lora_B" in key]
    if halves or not found:
        raise CheckpointError(f"{file} lacks the lora_A of {halves[0]}" if halves else f"{file} is empty")
    return found


def _peft_alpha(name: str, rank: int, config: Mapping[str, Any]) -> float:
    """PEFT's scale is alpha / rank, or alpha / sqrt(rank) when rank-stabilised."""
    if not config:
        return float(rank)
    patterns: Mapping[str, float] = config.get("alpha_pattern") or {}
    match = next((value for key, value in patterns.items() if re.search(rf"(^|\.){key}$", name)), None)
    alpha = float(config.get("lora_alpha", rank) if match is None else match)
    return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha


def _refuse_other_kinds(config: Mapping[str, Any], file: Path) -> None:
    where = file.parent / _PEFT_CONFIG
    if config and config.get("peft_type") != "LORA":
        raise CheckpointError(f"{where}: peft_type is {config.get('peft_type')!r}; only LORA can be read")
    for name, plain in _NOT_PLAIN.items():
        if config.get(name, plain) not in (plain, [], None):
            raise CheckpointError(f"{where}: {name} is {config[name]!r}; only plain LoRA can be read")


def _folded(name: str, value: Tensor, lora: LoRA) -> Tensor:
    if not name.endswith(".lora_B.weight"):
        return value
    return value * lora.additions[name.removesuffix(".lora_B.weight")].scale


def _peft_config(lora: LoRA, base: str) -> dict[str, Any]:
    """The commonest rank and alpha at the top, the others by layer."""
    ranks = [shape.rank for shape in lora.additions.values()]
    alphas = [shape.alpha for shape in lora.additions.values()]
    rank, alpha = max(set(ranks), key=ranks.count), max(set(alphas), key=alphas.count)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "target_modules": list(lora.additions),
        "rank_pattern": {n: shape.rank for n, shape in lora.additions.items() if shape.rank != rank},
        "alpha_pattern": {n: shape.alpha for n, shape in lora.additions.items() if shape.alpha != alpha},
    }


def with_weight(spec: str) -> tuple[Path, float]:
    """`PATH:0.5` is a path and a weight; without one the weight is 1."""
    path, colon, weight = spec.rpartition(":")
    try:
        return (Path(path), float(weight)) if colon and path else (Path(spec), 1.0)
    except ValueError:
        return Path(spec), 1.0


def merge_loras(network: nn.Module, specs: Sequence[str]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Read each `PATH[:weight]` and add it to the network's weights.

    Returns which ones they were, for the record, and the old weights, for `unmerge`.
    """
    chosen = [with_weight(spec) for spec in specs]
    loras = [(read_lora(path, network), weight) for path, weight in chosen]
    before = merge(network, loras)
    files = [lora_file(path) for path, _ in chosen]
    records = [
        {"file": str(file), "weight": weight, "sha256": file_sha256(file)}
        for file, (_, weight) in zip(files, chosen, strict=True)
    ]
    return records, before
