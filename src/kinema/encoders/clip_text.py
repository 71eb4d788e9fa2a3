"""CLIP's text side, in the layout of transformers' CLIPTextModel: OpenCLIP ViT-H in Stable Diffusion 2.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kinema.encoders.pretrained import PretrainedText, check_width, from_source, library
from kinema.encoders.protocols import EncodedText

_WHOLE_LAYERS = 24
"""Of OpenCLIP ViT-H's text side; Stable Diffusion 2.1's folder holds the first 23 of them."""


@dataclass(frozen=True, kw_only=True)
class ClipTextConfig:
    """`source` is a folder with `subfolder` (safetensors) and `tokenizer`, or a hub name (with `revision`).

    The tokens are those of the last layer but one, after the final norm. `layer` "auto": a text side of 24
    layers is cut before its last; a shorter one was cut when it was saved, and gives its last.
    """

    kind: Literal["clip-text"] = "clip-text"
    source: str = "stabilityai/stable-diffusion-2-1"
    revision: str = "main"
    subfolder: str = "text_encoder"
    tokenizer: str = "tokenizer"
    width: int = 1024
    max_tokens: int = 77
    layer: Literal["auto", "last", "penultimate"] = "auto"

    def __post_init__(self) -> None:
        if self.width < 1 or self.max_tokens < 2:
            raise ValueError(
                f"width must be at least 1 and max_tokens 2, got {self.width} and {self.max_tokens}"
            )


class ClipTextEncoder(PretrainedText):
    """CLIP's tokens, padding included."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__(lambda: _load_encoder(config), config, config.tokenizer)
        self.config = config

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> EncodedText:
        """Embed captions; padding is attended like words, as in Stable Diffusion: the mask is all True."""
        ids = self.tokenizer(
            list(captions),
            max_length=self.max_tokens,
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        states = self._states(ids.to(self.anchor.device)).float()
        return EncodedText(states, torch.ones(states.shape[:2], dtype=torch.bool, device=states.device))

    def unknown_words(self, caption: str) -> list[str]:
        """Words past `max_tokens`; every other word is spelt from pieces that the encoder knows."""
        heard = self.tokenizer(caption, max_length=self.max_tokens, truncation=True).input_ids
        whole = self.tokenizer(caption).input_ids
        if len(heard) == len(whole):
            return []
        kept = len(self.tokenizer.decode(heard, skip_special_tokens=True).split())
        return list(dict.fromkeys(caption.split()[kept:]))

    def _states(self, ids: Tensor) -> Tensor:
        penultimate = self.config.layer == "penultimate"
        if self.config.layer == "auto":
            penultimate = self.part.config.num_hidden_layers == _WHOLE_LAYERS
        if not penultimate:
            states: Tensor = self.part(input_ids=ids).last_hidden_state
            return states
        before_last = self.part(input_ids=ids, output_hidden_states=True).hidden_states[-2]
        model = getattr(self.part, "text_model", self.part)
        normed: Tensor = model.final_layer_norm(before_last)
        return normed


def _load_encoder(config: ClipTextConfig) -> nn.Module:
    loaded: Any = from_source(
        library("transformers").CLIPTextModel.from_pretrained,
        config.source,
        config.revision,
        config.subfolder,
        use_safetensors=True,
    )
    check_width(config.source, loaded.config.hidden_size, config.width)
    encoder: nn.Module = loaded.float()
    return encoder
