"""What a training step of any network computes and keeps, counted without computing it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from kinema.nn.build import NetworkConfig
from kinema.nn.flops import LatentShape, kept_numbers, training_flops
from kinema.nn.stdit2 import STDiT2
from kinema.nn.stdit2_config import STDiT2Config
from kinema.nn.video_unet import VideoConditioning, VideoUNet, VideoUNetConfig


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One clip in a training step: operations, forward and backward, and numbers that the forward pass keeps.

    The second forward pass of gradient checkpointing is not among the operations.
    """

    flops: float
    kept: float


@cache
def count_parameters(config: NetworkConfig) -> int:
    """Weights of the network, on a device that holds no numbers."""
    with torch.device("meta"):
        network = STDiT2(config) if isinstance(config, STDiT2Config) else VideoUNet(config)
    return sum(parameter.numel() for parameter in network.parameters())


@cache
def step_cost(config: NetworkConfig, shape: LatentShape, *, checkpointing: bool = False) -> StepCost:
    """By formula for ST-DiT-2; of a forward pass without numbers for the video UNet."""
    match config:
        case STDiT2Config():
            kept = kept_numbers(config, shape, checkpointing=checkpointing)
            return StepCost(flops=training_flops(config, shape), kept=kept)
        case VideoUNetConfig():
            return _counted(config, shape, checkpointing)


def _counted(config: VideoUNetConfig, shape: LatentShape, checkpointing: bool) -> StepCost:
    with FakeTensorMode():
        network = VideoUNet(config).train()
        network.gradient_checkpointing = checkpointing
        latents = torch.empty(1, config.in_channels, shape.frames, shape.height, shape.width)
        told = VideoConditioning(
            tokens=torch.empty(1, shape.words, config.context_width),
            values=torch.empty(1, len(config.conditions)),
            image_only=torch.tensor([True]) if shape.frames == 1 else None,
        )
        kept = _Kept(network)
        with FlopCounterMode(display=False) as counter, kept:
            network(latents, torch.empty(1), told)
        return StepCost(flops=3.0 * counter.get_total_flops(), kept=kept.numbers)


class _Kept(torch.autograd.graph.saved_tensors_hooks):
    """Counts what is kept for the backward pass, each storage once, weights left out."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(self._keep, self._give)
        self._weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
        self._held: dict[int, Tensor] = {}

    @property
    def numbers(self) -> float:
        """Of float32 size."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self._held.values()) / 4

    def _keep(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in self._weights:
            self._held.setdefault(storage, tensor)  # held, so that its place is not given to another
        return tensor

    @staticmethod
    def _give(tensor: Any) -> Any:  # noqa: ANN401 - what autograd hands over
        return tensor
