"""torch.compile for a run: one graph for each bucket, counted, and no part that is silently left out."""

from __future__ import annotations

import torch
from torch._dynamo.utils import counters

from kinema.nn import Network, STDiT2

_MOST_GRAPHS = 256


def compile_network(network: Network) -> None:
    """Compile in place, at the first batch of each bucket: the blocks of a transformer, which are all alike and
    share their graphs, or the whole of a video UNet.

    Sizes are fixed in a graph. What cannot be compiled raises PyTorch's own error, which names the line.
    """
    torch._dynamo.config.recompile_limit = _MOST_GRAPHS
    for part in network.blocks if isinstance(network, STDiT2) else [network]:
        if part._compiled_call_impl is None:
            part.compile(fullgraph=True, dynamic=False)


def compiled_graphs() -> int:
    """Graphs made in this process so far."""
    return int(counters["stats"]["unique_graphs"])
