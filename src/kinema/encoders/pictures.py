"""What a picture shows, as context tokens: CLIP's projected embedding, or an embedded encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from kinema.encoders.pretrained import Pretrained, check_width, from_source, library
from kinema.nn.products import Linear

_CLIP_SIDE = 224
_CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
_CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ClipImageConfig:
    """CLIP's image side: ViT-H with Stable Video Diffusion. `source` is a folder or a hub name.

    `width`, of the projected embedding, is checked when the weights are loaded.
    """

    kind: Literal["clip-image"] = "clip-image"
    source: str = "stabilityai/stable-video-diffusion-img2vid-xt"
    revision: str = "main"
    subfolder: str = "image_encoder"
    width: int = 1024

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class PictureConfig:
    """Colours of `side` by `side` cells of a picture, and two layers over them: no download."""

    kind: Literal["colours"] = "colours"
    width: int = 64
    side: int = 8

    def __post_init__(self) -> None:
        if self.width < 1 or self.side < 1:
            raise ValueError(f"width and side must be at least 1, got {self.width} and {self.side}")


PictureEncoderConfig = ClipImageConfig | PictureConfig


class ClipImageEncoder(Pretrained):
    """One token a picture: the projected embedding of CLIP. Not trained along; loaded when first used."""

    def __init__(self, config: ClipImageConfig) -> None:
        super().__init__(lambda: _load_clip(config))
        self.config = config

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.config.width

    @torch.no_grad()
    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 d"]:
        """Pictures in [-1, 1] of any size; the aspect ratio is not kept, as published."""
        device = self.anchor.device
        seen = published_resize(pictures.to(device).float(), _CLIP_SIDE) * 0.5 + 0.5
        mean, deviation = (seen.new_tensor(values)[:, None, None] for values in (_CLIP_MEAN, _CLIP_STD))
        embedded: Tensor = self.part(pixel_values=(seen - mean) / deviation).image_embeds
        return embedded[:, None].float()


class PictureEncoder(nn.Module):
    """Trained along with the network: one token a picture."""

    def __init__(self, config: PictureConfig) -> None:
        super().__init__()
        self.config = config
        self.colours = Linear(3 * config.side**2, config.width)
        self.out = Linear(config.width, config.width)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.config.width

    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1 d"]:
        """Pictures in [-1, 1] of any size."""
        seen = functional.adaptive_avg_pool2d(pictures.to(self.out.weight), self.config.side)
        hidden = functional.silu(self.colours(rearrange(seen, "b c h w -> b (c h w)")))
        token: Tensor = self.out(hidden)[:, None]
        return token


def published_resize(pictures: Float[Tensor, "b c h w"], side: int) -> Float[Tensor, "b c side side"]:
    """Blur by the factor of the reduction, then bicubic with aligned corners: what the weights know.

    sigma = max((factor - 1) / 2, 0.001); the kernel is the odd number at or above 2 * 2 * sigma, at least 3.
    """
    factors = (pictures.shape[-2] / side, pictures.shape[-1] / side)
    sigmas = [max((factor - 1) / 2, 0.001) for factor in factors]
    sizes = [int(max(4 * sigma, 3)) for sigma in sigmas]
    rows, columns = (
        _gaussian(size + 1 - size % 2, sigma).to(pictures) for size, sigma in zip(sizes, sigmas, strict=True)
    )
    channels = pictures.shape[1]
    padding = [len(columns) // 2, len(columns) // 2, len(rows) // 2, len(rows) // 2]
    padded = functional.pad(pictures, padding, mode="reflect")
    kernel = (rows[:, None] * columns[None, :]).expand(channels, 1, -1, -1)
    blurred = functional.conv2d(padded, kernel, groups=channels)
    return functional.interpolate(blurred, size=(side, side), mode="bicubic", align_corners=True)


def _gaussian(size: int, sigma: float) -> Float[Tensor, " size"]:
    places = torch.arange(size, dtype=torch.float32) - size // 2
    weights = torch.exp(-(places**2) / (2 * sigma**2))
    return weights / weights.sum()


def _load_clip(config: ClipImageConfig) -> nn.Module:
    loaded: Any = from_source(
        library("transformers").CLIPVisionModelWithProjection.from_pretrained,
        config.source,
        config.revision,
        config.subfolder,
        use_safetensors=True,
    )
    check_width(config.source, loaded.config.projection_dim, config.width)
    encoder: nn.Module = loaded.float()
    return encoder
