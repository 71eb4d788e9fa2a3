"""LPIPS (Zhang 2018): distance of deep features, weighted by published heads; weights come from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from kinema.errors import CheckpointError

# Convolutions as (index in torchvision's `features`, out, in, kernel, stride, padding), by slice; a slice
# begins with a pooling (size, stride) where there is one, and each slice ends in one feature map.
Convolution = tuple[int, int, int, int, int, int]
ALEXNET: tuple[tuple[int, tuple[Convolution, ...]], ...] = (
    (0, ((0, 64, 3, 11, 4, 2),)),
    (3, ((3, 192, 64, 5, 1, 2),)),
    (3, ((6, 384, 192, 3, 1, 1),)),
    (0, ((8, 256, 384, 3, 1, 1),)),
    (0, ((10, 256, 256, 3, 1, 1),)),
)
VGG16: tuple[tuple[int, tuple[Convolution, ...]], ...] = (
    (0, ((0, 64, 3, 3, 1, 1), (2, 64, 64, 3, 1, 1))),
    (2, ((5, 128, 64, 3, 1, 1), (7, 128, 128, 3, 1, 1))),
    (2, ((10, 256, 128, 3, 1, 1), (12, 256, 256, 3, 1, 1), (14, 256, 256, 3, 1, 1))),
    (2, ((17, 512, 256, 3, 1, 1), (19, 512, 512, 3, 1, 1), (21, 512, 512, 3, 1, 1))),
    (2, ((24, 512, 512, 3, 1, 1), (26, 512, 512, 3, 1, 1), (28, 512, 512, 3, 1, 1))),
)


class Lpips(nn.Module):
    """`features` keeps torchvision's indices and `lin<k>.model.1` the published heads, so that files load."""

    def __init__(self, slices: tuple[tuple[int, tuple[Convolution, ...]], ...]) -> None:
        super().__init__()
        self.slices = slices
        self.features = nn.ModuleDict(
            {
                str(index): nn.Conv2d(inner, outer, kernel, stride, padding)
                for _, convolutions in slices
                for index, outer, inner, kernel, stride, padding in convolutions
            }
        )
        for place, (_, convolutions) in enumerate(slices):
            head = nn.Conv2d(convolutions[-1][1], 1, 1, bias=False)
            self.add_module(f"lin{place}", nn.ModuleDict({"model": nn.ModuleDict({"1": head})}))
        self.register_buffer(
            "shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer("spread", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)

    def forward(
        self, image: Float[Tensor, "b 3 h w"], other: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Distances of images in [-1, 1]."""
        total = torch.zeros(len(image))
        for place, (one, two) in enumerate(zip(self._maps(image), self._maps(other), strict=True)):
            apart = (_unit(one) - _unit(two)) ** 2
            head = self.get_submodule(f"lin{place}.model.1")
            total = total + head(apart).mean(dim=(1, 2, 3))
        return total

    def _maps(self, image: Float[Tensor, "b 3 h w"]) -> list[Tensor]:
        hidden = (image - self.get_buffer("shift")) / self.get_buffer("spread")
        maps = []
        for pooling, convolutions in self.slices:
            hidden = functional.max_pool2d(hidden, pooling, 2) if pooling else hidden
            for index, *_ in convolutions:
                hidden = functional.relu(self.features[str(index)](hidden))
            maps.append(hidden)
        return maps


@torch.no_grad()
def lpips(
    network: Lpips, frames: UInt8[np.ndarray, "t h w 3"], reference: UInt8[np.ndarray, "t h w 3"]
) -> float:
    """Mean over frames, one at a time; 0 for equal frames."""
    if frames.shape != reference.shape or not len(frames):
        raise ValueError(f"frames {frames.shape} and reference {reference.shape} differ or are empty")
    pairs = zip(_signed(frames), _signed(reference), strict=True)
    return float(torch.cat([network(one[None], two[None]) for one, two in pairs]).mean())


def _unit(maps: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Length 1 over channels."""
    return maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)


def _signed(frames: UInt8[np.ndarray, "t h w 3"]) -> Float[Tensor, "t 3 h w"]:
    return rearrange(
        torch.from_numpy(np.ascontiguousarray(frames)).float() / 127.5 - 1.0, "t h w c -> t c h w"
    )


def load_lpips(path: Path) -> Lpips:
    """LPIPS from one safetensors file with backbone and heads; the first convolution tells the backbone."""
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error}); see docs/metrics.md") from error
    first = weights.get("features.0.weight")
    if first is None:
        raise CheckpointError(
            f"{path}: no features.0.weight in it; see docs/metrics.md for what it must hold"
        )
    network = Lpips(ALEXNET if first.shape[-1] == 11 else VGG16)
    wanted = network.state_dict()
    for key, tensor in wanted.items():
        if key not in weights or weights[key].shape != tensor.shape:
            found = "nothing" if key not in weights else str(tuple(weights[key].shape))
            raise CheckpointError(f"{path}: {key} should have shape {tuple(tensor.shape)}, found {found}")
    network.load_state_dict({key: weights[key].float() for key in wanted})
    return network.eval()
