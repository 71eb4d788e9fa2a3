"""The networks: torch modules without input or output of their own."""

from __future__ import annotations

from kinema.nn.build import Network, NetworkConfig, build_network
from kinema.nn.conditioning import Conditioning, cat_conditioning
from kinema.nn.stdit2 import STDiT2
from kinema.nn.stdit2_config import STDiT2Config
from kinema.nn.video_unet import Task, VideoConditioning, VideoUNet, VideoUNetConfig

__all__ = [
    "Conditioning",
    "Network",
    "NetworkConfig",
    "STDiT2",
    "STDiT2Config",
    "Task",
    "VideoConditioning",
    "VideoUNet",
    "VideoUNetConfig",
    "build_network",
    "cat_conditioning",
]
