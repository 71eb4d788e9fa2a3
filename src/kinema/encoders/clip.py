"""CLIP: pictures and texts in one space, from a transformers folder or hub name; its cosine is text match."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from kinema.encoders.pretrained import Pretrained, from_source, library

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_SPREAD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """`source` is a folder with model (safetensors) and tokenizer as in transformers, or a hub name."""

    source: str
    revision: str = "main"


class Clip(Pretrained):
    """Loaded when first used. All features have length 1."""

    def __init__(self, config: ClipConfig) -> None:
        super().__init__(lambda: _load(config))
        self.config = config
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - a transformers tokenizer
        """Loaded when first used."""
        if self._tokenizer is None:
            load = library("transformers").AutoTokenizer.from_pretrained
            self._tokenizer = from_source(
                load, self.config.source, self.config.revision, "", trust_remote_code=False
            )
        return self._tokenizer

    @torch.no_grad()
    def images(self, frames: UInt8[np.ndarray, "n h w 3"]) -> Float[Tensor, "n d"]:
        """Features of pictures: the shorter side is scaled to the model's size, and the centre is taken."""
        side = int(self.part.config.vision_config.image_size)
        found = self.part.vision_model(pixel_values=prepared(frames, side).to(self.anchor.device))
        return functional.normalize(self.part.visual_projection(found.pooler_output).float(), dim=1)

    @torch.no_grad()
    def texts(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Features of texts; what is longer than the model reads is cut."""
        most = int(self.part.config.text_config.max_position_embeddings)
        tokens = self.tokenizer(
            list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt"
        ).to(self.anchor.device)
        found = self.part.text_model(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return functional.normalize(self.part.text_projection(found.pooler_output).float(), dim=1)


def prepared(frames: UInt8[np.ndarray, "n h w 3"], side: int) -> Float[Tensor, "n 3 s s"]:
    """As the published model was trained: bicubic to the shorter side, centre crop, its mean and spread."""
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "n h w c -> n c h w").float()
    height, width = pixels.shape[2:]
    shorter = min(height, width)
    size = [side * height // shorter, side * width // shorter]
    pixels = functional.interpolate(pixels, size=size, mode="bicubic", antialias=True).round().clamp(0, 255)
    top, left = (size[0] - side) // 2, (size[1] - side) // 2
    cut = pixels[..., top : top + side, left : left + side] / 255
    mean, spread = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_SPREAD))
    return (cut - mean) / spread


def _load(config: ClipConfig) -> nn.Module:
    loaded: nn.Module = from_source(
        library("transformers").CLIPModel.from_pretrained,
        config.source,
        config.revision,
        "",
        use_safetensors=True,
    )
    return loaded.float()
