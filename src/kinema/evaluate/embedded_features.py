"""The small feature network that is shipped: a distance between sets of videos that works offline.

Trained without labels on real footage by `kinema.evaluate.feature_training`. Not comparable with published
Fréchet video distances, which are measured on I3D.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from kinema.checkpoint import fill_module, read_tensors

SIDE = 128
LEAST_FRAMES = 2
WIDTHS = (24, 32, 64, 96)
SHIPPED = "features.safetensors"
NOT_FVD = "not comparable with published FVD, only with what kinema measured under the same protocol"


class SpaceTime(nn.Module):
    """A 3 x 3 convolution over space, halving it where `stride` is 2, then one of 3 over time, residual."""

    def __init__(self, inner: int, outer: int, stride: int, kernel: int = 3) -> None:
        super().__init__()
        self.space = nn.Conv2d(inner, outer, kernel, stride, kernel // 2, bias=False)
        self.space_norm = nn.BatchNorm2d(outer)
        self.time = nn.Conv2d(outer, outer, (3, 1), padding=(1, 0), bias=False)
        self.time_norm = nn.BatchNorm2d(outer)

    def forward(self, video: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c2 t h2 w2"]:
        count = len(video)
        frames = functional.relu(self.space_norm(self.space(rearrange(video, "b c t h w -> (b t) c h w"))))
        height = frames.shape[2]
        columns = rearrange(frames, "(b t) c h w -> b c t (h w)", b=count)
        columns = functional.relu(columns + self.time_norm(self.time(columns)))
        return rearrange(columns, "b c t (h w) -> b c t h w", h=height)


PLACES = 8
STEPS = (2, 4)
BESIDE = 0.25
"""How many features tell places, over how many frames steps are compared with those over one, and the
variance of each of the two groups over real video, in shares of the means' variance."""


class FeatureNet(nn.Module):
    """Video in [-1, 1] to `WIDTHS[-1] + PLACES + len(STEPS)` features, any frames and any size.

    The means of the last responses; where they lie (a mean does not see a jumbled picture); and how much
    the first responses change over several frames, against over one (frames out of order change as much
    over one as over several). `scales` brings the two groups to `BESIDE`; `scales_of` finds it.
    """

    scales: Tensor

    def __init__(self) -> None:
        super().__init__()
        inner = (3, *WIDTHS[:-1])
        self.blocks = nn.ModuleList(
            SpaceTime(before, after, stride=2, kernel=5 if before == 3 else 3)
            for before, after in zip(inner, WIDTHS, strict=True)
        )
        self.register_buffer("scales", torch.ones(2))

    def means(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c"]:
        """The last responses over space and time: what is trained."""
        for block in self.blocks:
            video = block(video)
        return reduce(video, "b c t h w -> b c", "mean")

    def parts(self, video: Float[Tensor, "b 3 t h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """Means, places and steps, the latter two as they are, not scaled."""
        first: Tensor = self.blocks[1](self.blocks[0](video))
        last: Tensor = self.blocks[3](self.blocks[2](first))
        return reduce(last, "b c t h w -> b c", "mean"), places(last), steps(first)

    def forward(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b d"]:
        means, where, when = self.parts(video)
        return torch.cat([means, self.scales[0] * where, self.scales[1] * when], dim=1)


def places(responses: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]:
    """How far from the middle the responses are, summed over `PLACES` groups of channels; 0 if even."""
    rows, columns = (torch.linspace(-1, 1, size) for size in responses.shape[-2:])
    distance = rows[:, None].square() + columns.square()
    away = (responses * (distance - distance.mean())).double()  # much of it cancels
    return reduce(away, "b (k c) t h w -> b k", "sum", k=PLACES).to(responses) / away[0, 0].numel()


def steps(responses: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b k"]:
    """The log of the change over each of `STEPS` frames (as many as there are) against that over one."""
    most = responses.shape[2] - 1
    changes = [
        (responses[:, :, step:] - responses[:, :, :-step]).abs().mean(dim=(1, 2, 3, 4)) + 1e-3
        for step in (1, *(min(step, most) for step in STEPS))
    ]
    return torch.stack([(change / changes[0]).log() for change in changes[1:]], dim=1)


@torch.no_grad()
def scales_of(network: FeatureNet, windows: Float[Tensor, "n 3 t h w"]) -> Float[Tensor, " k"]:
    """The `scales` with which places and steps vary over real windows as `BESIDE` says."""
    means, *others = (
        torch.cat(rows) for rows in zip(*(network.parts(window[None]) for window in windows), strict=True)
    )
    wanted = BESIDE * means.var(dim=0).sum()
    return torch.stack([(wanted / other.var(dim=0).sum().clamp_min(1e-6)).sqrt() for other in others])


class EmbeddedFeatures:
    """Features of one video with shipped or own weights; frames are brought to `SIDE` x `SIDE` pixels."""

    about = f"a distance of kinema's embedded features: {NOT_FVD}"

    def __init__(self, weights: Path | None = None) -> None:
        path = weights or Path(str(files("kinema.evaluate") / SHIPPED))
        self.network = load_network(path)
        self.name = network_name(self.network)

    @torch.no_grad()
    def __call__(self, frames: UInt8[np.ndarray, "t h w 3"]) -> Float[np.ndarray, " d"]:
        return np.asarray(self.network(square_video(frames))[0].double().numpy())


def square_video(frames: UInt8[np.ndarray, "t h w 3"], side: int = SIDE) -> Float[Tensor, "1 3 t s s"]:
    """Frames in [-1, 1], resized with an antialiased filter; one frame is shown twice."""
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "t h w c -> t c h w").float()
    if tuple(pixels.shape[2:]) != (side, side):
        pixels = functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    pixels = pixels if len(pixels) >= LEAST_FRAMES else pixels.expand(LEAST_FRAMES, -1, -1, -1)
    return rearrange(pixels, "t c h w -> 1 c t h w").contiguous() / 127.5 - 1.0


def load_network(path: Path) -> FeatureNet:
    """Raises `CheckpointError` when the file holds other weights."""
    network = FeatureNet()
    tensors = {
        key: value if value.dtype == torch.int64 else value.float()
        for key, value in read_tensors(path).items()
    }
    fill_module(network, tensors, str(path))
    return network.eval()


def network_name(network: FeatureNet) -> str:
    """Changes with the weights."""
    digest = hashlib.sha256()
    for key, value in sorted(network.state_dict().items()):
        digest.update(key.encode() + value.numpy().tobytes())
    return f"kinema-embedded sha256 {digest.hexdigest()[:16]}"
