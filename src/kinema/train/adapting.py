"""LoRA as a way of training: the network stays as it is, and only what is added to its layers learns."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from torch import nn

from kinema.errors import ConfigError
from kinema.lora import FOLDER, write_lora
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


def export_lora(folder: Path, network: Network, lora: nn.Module, base: Path) -> None:
    """Write the run's LoRA, in both layouts."""
    assert isinstance(lora, LoRA)
    part = "transformer" if isinstance(network, STDiT2) else "unet"
    write_lora(folder / FOLDER, lora, part=part, base=str(base))  # type: ignore[arg-type]
