"""From a config to its network: a closed set, chosen by type."""

from __future__ import annotations

from typing import overload

from kinema.nn.memory import keep_freed_memory
from kinema.nn.stdit2 import STDiT2
from kinema.nn.stdit2_config import STDiT2Config
from kinema.nn.video_unet import VideoUNet, VideoUNetConfig

Network = STDiT2 | VideoUNet
NetworkConfig = STDiT2Config | VideoUNetConfig


@overload
def build_network(config: STDiT2Config) -> STDiT2: ...
@overload
def build_network(config: VideoUNetConfig) -> VideoUNet: ...
def build_network(config: NetworkConfig) -> Network:
    """The network of `config`, freshly initialised; the process keeps freed memory from then on."""
    keep_freed_memory()
    match config:
        case STDiT2Config():
            return STDiT2(config)
        case VideoUNetConfig():
            return VideoUNet(config)
