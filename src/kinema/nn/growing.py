"""How a network begins: from nothing, or from one with fewer inputs or parts."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kinema.checkpoint import fill_module
from kinema.nn.video_unet import VideoUNet

_WIDENED = ("conv_in.weight", "add_embedding.linear_1.weight")
_NEW = ("placeholder", "frame_embedder.", "final_layer.given_gate.")
_LAST = re.compile(r"(_res_block\.conv2|attentions\.\d+\.proj_out|^conv_out)\.(weight|bias)$")


@torch.no_grad()
def begin_at_zero(network: VideoUNet) -> None:
    """Zero the last layer of every residual block and transformer, and the output, as the original does."""
    for name, parameter in network.named_parameters():
        if _LAST.search(name):
            parameter.zero_()


def fill_grown(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy `tensors`; inputs that the earlier network did not have start at zero: it makes what it made.

    Raises `CheckpointError` naming the first key that does not fit.
    """
    own = network.state_dict()
    grown = {name: value for name, value in own.items() if name.startswith(_NEW)} | dict(tensors)
    for name in _WIDENED:
        if name in own and name in grown:
            grown[name] = widened(grown[name], own[name].shape[1])
    fill_module(network, grown, source)


def widened(weight: Tensor, inputs: int) -> Tensor:
    """With zeros for the inputs that are new; one that has as many or more stays as it is."""
    missing = inputs - weight.shape[1]
    if missing <= 0:
        return weight
    extra = weight.new_zeros(weight.shape[0], missing, *weight.shape[2:])
    return torch.cat([weight, extra], dim=1)
