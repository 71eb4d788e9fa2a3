"""torch.compile for a network: one graph for each shape of its input, and no part left out in silence."""

from __future__ import annotations

import torch

from kinema.errors import ConfigError
from kinema.nn.build import Network
from kinema.nn.stdit2 import STDiT2

_MOST_GRAPHS = 256


def compile_network(network: Network) -> None:
    """Compile the blocks in place, at the first input of each shape; all are alike and share their graphs.

    Sizes are fixed in a graph. What cannot be compiled raises PyTorch's own error, which names the line.
    Raises `ConfigError` for other networks than a transformer.
    """
    if not isinstance(network, STDiT2):
        raise ConfigError("compile is for networks of the kind stdit2; leave it out for a video UNet")
    torch._dynamo.config.recompile_limit = _MOST_GRAPHS
    for block in network.blocks:
        if block._compiled_call_impl is None:
            block.compile(fullgraph=True, dynamic=False)


def compiled_graphs() -> int:
    """Graphs made in this process so far."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
