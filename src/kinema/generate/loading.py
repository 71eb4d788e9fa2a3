"""A model folder to a model that is ready to sample, where it is to run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from kinema.errors import ConfigError
from kinema.lora import merge_loras
from kinema.model import Model, load_model, model_hash
from kinema.nn.compiling import compile_network


def ready_model(
    folder: Path, ema: bool, lora: Sequence[str], *, offload: bool = False, compiled: bool = False
) -> tuple[Model, dict[str, Any]]:
    """The model with its LoRAs on the GPU, or the CPU where there is none, and which ones they were.

    `offload`: all but the network wait in main memory; `ConfigError` where there is no GPU to free.
    `compiled`: the network's blocks will be, where they are first used; `ConfigError` for a video UNet.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if offload and device.type == "cpu":
        raise ConfigError("offload frees the memory of a GPU, and here all is on the CPU; leave it out")
    model = load_model(folder, ema=ema)
    loras = merge_loras(model.network, lora)
    facts = {"folder": str(folder), "sha256": model_hash(folder), "lora": loras}
    if compiled:
        compile_network(model.network)
    return model.to(device, offloaded=offload), facts
