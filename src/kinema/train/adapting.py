"""LoRA as a way of training: the network stays as it is, and only what is added to its layers learns."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from kinema.checkpoint import fill_module
from kinema.errors import ConfigError
from kinema.lora import FOLDER, Part, write_lora
from kinema.nn import Network, STDiT2
from kinema.nn.lora import LoRA, LoRAConfig, attach, new_lora

PART = "lora"


def adapt(network: Network, config: LoRAConfig, seed: int) -> LoRA:
    """Freeze the network and attach a new LoRA to it."""
    network.requires_grad_(False).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            lora = new_lora(network, config)
        except ValueError as error:
            raise ConfigError(f"lora: {error}") from error
    attach(network, [(lora, 1.0)])
    return lora.to(next(network.parameters()).device)


def with_lora(network: Network, lora: nn.Module) -> Network:
    """The same network, sharing its weights, with another LoRA."""
    assert isinstance(lora, LoRA)
    shared = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
    other = copy.deepcopy(network, shared)
    attach(other, [(lora, 1.0)])
    return other


def export_lora(
    folder: Path, network: Network, lora: nn.Module, weights: Mapping[str, Tensor], base: Path
) -> None:
    """Write `weights` for the layers of `lora`, in both layouts."""
    assert isinstance(lora, LoRA)
    written = LoRA(lora.additions)
    fill_module(written, weights, "the checkpoint of this run")
    part: Part = "transformer" if isinstance(network, STDiT2) else "unet"
    write_lora(folder / FOLDER, written, part=part, base=str(base))
