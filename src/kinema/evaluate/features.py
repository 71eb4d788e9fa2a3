"""Networks that turn a video into one feature vector, for distances between sets of videos."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional

from kinema.errors import CheckpointError
from kinema.evaluate.embedded_features import NOT_FVD, EmbeddedFeatures

FLOOR = 1e-2  # in pixels of [-1, 1]: about one grey level, what 8-bit rounding leaves in a flat video


class FeatureNetwork(Protocol):
    """`name` goes into the protocol of a result: distances of different names are never compared. `about`
    says what the distances may be compared with."""

    name: str
    about: str

    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        """Features of one video."""
        ...


@dataclass(frozen=True, kw_only=True)
class EmbeddedConfig:
    """The small network that comes with kinema, or the `weights` that `kinema features` made. Works offline;
    not comparable with any published Fréchet video distance."""

    kind: Literal["embedded"] = "embedded"
    weights: Path | None = None


@dataclass(frozen=True, kw_only=True)
class I3DConfig:
    """A TorchScript file of I3D trained on Kinetics-400, called as published Fréchet video distances are:
    pixels 0..255, `rescale=True, resize=True, return_features=True`.

    Loading TorchScript runs the program inside the file: give a path that you trust, with its `sha256`
    where you know it.
    """

    kind: Literal["i3d"] = "i3d"
    path: Path
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class InceptionConfig:
    """A TorchScript file of the Inception network that the published Fréchet inception distances use, called
    with `return_features=True` on the middle frame of each video. The warning of `I3DConfig` holds."""

    kind: Literal["inception"] = "inception"
    path: Path
    sha256: str = ""


@dataclass(frozen=True, kw_only=True)
class BandEnergiesConfig:
    """Log energies of fixed random filters from `seed`, untrained, offline: sees sharpness, noise, contrast
    and motion, not colour and not content. Not comparable with any published Fréchet video distance."""

    kind: Literal["bands"] = "bands"
    seed: int = 0
    filters: int = 16


FeaturesConfig = EmbeddedConfig | I3DConfig | InceptionConfig | BandEnergiesConfig


def build_features(config: FeaturesConfig) -> FeatureNetwork:
    """The network of a config."""
    match config:
        case EmbeddedConfig():
            return EmbeddedFeatures(config.weights)
        case I3DConfig():
            return TorchScriptI3D(config)
        case InceptionConfig():
            return TorchScriptInception(config)
        case BandEnergiesConfig():
            return BandEnergies(config)


class TorchScriptI3D:
    """400 features a video, as the Fréchet video distance is defined on."""

    about = "FVD: comparable with published ones of the same frames, rate, size and number of videos"

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

    about = "FID of the middle frames: comparable with published FID of the same number of pictures"

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


class BandEnergies:
    """Log root-mean-square of filter responses at three scales, and mean and deviation of each colour.

    Half of the filters see one frame (sum zero over place), half the change between two frames. Energies are
    compared in ratio: a blur that takes away a small but telling energy counts as much as added noise.
    """

    about = f"a distance of band energies: {NOT_FVD}"

    def __init__(self, config: BandEnergiesConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        still = torch.randn((config.filters, 3, 1, 5, 5), generator=generator)
        still = still - still.mean(dim=(3, 4), keepdim=True)
        change = torch.randn((config.filters, 3, 1, 5, 5), generator=generator)
        self.kernels = [still / _norm(still), torch.cat([change, -change], dim=2) / _norm(change)]
        self.name = f"random-band-energies-1 seed {config.seed} filters {config.filters}"

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        video = rearrange(torch.from_numpy(frames).float(), "t h w c -> 1 c t h w") / 127.5 - 1.0
        video = torch.cat([video, video[:, :, -1:]], dim=2) if len(frames) == 1 else video
        video = functional.interpolate(video, size=(video.shape[2], 64, 64), mode="trilinear")
        parts = [video.mean(dim=(2, 3, 4))[0], video.std(dim=(2, 3, 4))[0]]
        for _ in range(3):
            energies = [
                functional.conv3d(video, kernel).square().mean(dim=(2, 3, 4))[0] for kernel in self.kernels
            ]
            parts += [0.5 * torch.log(energy + FLOOR**2) for energy in energies]
            video = functional.avg_pool3d(video, (1, 2, 2))
        return np.asarray(torch.cat(parts).double().numpy())


def _norm(kernel: Tensor) -> Tensor:
    return kernel.square().sum(dim=(1, 2, 3, 4), keepdim=True).sqrt()
