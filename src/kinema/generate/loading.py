"""A model folder to a model that is ready to sample, where it is to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from kinema.errors import ConfigError
from kinema.generate.config import GenerateConfig
from kinema.lora import merge_loras
from kinema.model import Model, load_model, model_hash
from kinema.nn.compiling import compile_network
from kinema.nn.lora import unmerged_copy


def ready_model(folder: Path, config: GenerateConfig) -> tuple[Model, dict[str, Any]]:
    """The model with its LoRAs on the GPU, or the CPU where there is none, and which ones they were.

    With `lora_guidance` the network as it is without them is kept beside it.
    With `offload` all but the network wait in main memory; `ConfigError` where there is no GPU to free.
    With `compile` the network's blocks are compiled at first use; `ConfigError` for a video UNet.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if config.offload and device.type == "cpu":
        raise ConfigError("offload frees the memory of a GPU, and here all is on the CPU; leave it out")
    model = load_model(folder, ema=config.ema)
    loras, before = merge_loras(model.network, config.lora)
    if config.lora_guidance != 1:
        model.without_lora = unmerged_copy(model.network, before)
    facts = {"folder": str(folder), "sha256": model_hash(folder), "lora": loras}
    if config.compile:
        compile_network(model.network)
        if model.without_lora is not None:
            compile_network(model.without_lora)
    return model.to(device, offloaded=config.offload), facts
