"""From a config to its network: a closed set, chosen by type."""

from __future__ import annotations

from kinema.nn.stdit2 import STDiT2, STDiT2Config

NetworkConfig = STDiT2Config


def build_network(config: NetworkConfig) -> STDiT2:
    """The network of `config`, freshly initialised."""
    match config:
        case STDiT2Config():
            return STDiT2(config)
