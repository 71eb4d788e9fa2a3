"""Networks that turn a video into one feature vector, for distances between sets of videos."""

from __future__ import annotations

import hashlib
import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import CheckpointError


class FeatureNetwork(Protocol):
    """`name` goes into the protocol of a result: distances of different names are never compared."""

    name: str

    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        """Features of one video."""
        ...


@dataclass(frozen=True, kw_only=True)
class I3DConfig:
    """A TorchScript file of I3D trained on Kinetics-400, called as published Fréchet video distances are:
    pixels 0..255, `rescale=True, resize=True, return_features=True`.

    Loading TorchScript runs the program inside the file: give a path that you trust, with its `sha256`
    where you know it.
    """

    path: Path
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class InceptionConfig:
    """A TorchScript file of the Inception network that the published Fréchet inception distances use, called
    with `return_features=True` on the middle frame of each video. The warning of `I3DConfig` holds."""

    path: Path
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class RandomFeaturesConfig:
    """A fixed, untrained 3-D convolution network drawn from `seed`: offline, and not comparable with any
    published Fréchet video distance."""

    seed: int = 0
    width: int = 64


FeaturesConfig = I3DConfig | InceptionConfig | RandomFeaturesConfig


def build_features(config: FeaturesConfig) -> FeatureNetwork:
    """The network of a config."""
    match config:
        case I3DConfig():
            return TorchScriptI3D(config)
        case InceptionConfig():
            return TorchScriptInception(config)
        case RandomFeaturesConfig():
            return RandomFeatures(config)


class TorchScriptI3D:
    """400 features a video, as the Fréchet video distance is defined on."""

    def __init__(self, config: I3DConfig) -> None:
        self.network, digest = _load_torchscript(config.path, config.sha256)
        self.name = f"i3d-torchscript sha256 {digest}"

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        video = rearrange(torch.from_numpy(frames).float(), "t h w c -> 1 c t h w")
        features = self.network(video, rescale=True, resize=True, return_features=True)
        return np.asarray(features.reshape(-1).double().numpy())


class TorchScriptInception:
    """2048 features of a video's middle frame, as the Fréchet inception distance is defined on."""

    def __init__(self, config: InceptionConfig) -> None:
        self.network, digest = _load_torchscript(config.path, config.sha256)
        self.name = f"inception-torchscript middle frame sha256 {digest}"

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        image = rearrange(torch.from_numpy(frames[len(frames) // 2]), "h w c -> 1 c h w")
        features = self.network(image, return_features=True)
        return np.asarray(features.reshape(-1).double().numpy())


def _load_torchscript(path: Path, sha256: str) -> tuple[torch.jit.ScriptModule, str]:
    """The program in `path`, and the file's sha256, which must be the one expected when that is given."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give the TorchScript weights by their path")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if sha256 and found != sha256.lower():
        raise CheckpointError(f"{path}: sha256 is {found}, expected {sha256}; not loaded")
    try:
        with warnings.catch_warnings():  # the published weights exist in this deprecated format only
            warnings.simplefilter("ignore", DeprecationWarning)
            return torch.jit.load(str(path), map_location="cpu").eval(), found  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise CheckpointError(f"{path}: not a TorchScript file ({reason})") from error


@dataclass
class RandomFeatures:
    """Means and deviations over place and time of rectified random convolutions at three scales."""

    config: RandomFeaturesConfig
    name: str = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.config.seed)
        width = self.config.width
        shapes = [(width, 3, 3, 5, 5), (width, width, 3, 3, 3), (width, width, 3, 3, 3)]
        self.kernels = [_kernel(shape, generator) for shape in shapes]
        self.name = f"random-convolutions-1 seed {self.config.seed} width {width}"

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        video = rearrange(torch.from_numpy(frames).float(), "t h w c -> 1 c t h w") / 127.5 - 1.0
        maps = functional.interpolate(
            video, size=(video.shape[2], 64, 64), mode="trilinear", align_corners=False
        )
        parts: list[Tensor] = []
        for kernel in self.kernels:
            padding = [side // 2 for side in kernel.shape[2:]]
            maps = nn.functional.leaky_relu(functional.conv3d(maps, kernel, padding=padding), 0.1)
            parts += [maps.mean(dim=(2, 3, 4)), maps.std(dim=(2, 3, 4))]
            maps = functional.avg_pool3d(maps, (1, 2, 2))
        return np.asarray(torch.cat(parts, dim=1).reshape(-1).double().numpy())


def _kernel(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Gaussian filters that keep the scale of rectified maps (He 2015)."""
    kernel: Tensor = torch.randn(shape, generator=generator) * (2.0 / math.prod(shape[1:])) ** 0.5
    return kernel
