"""T5 as the text encoder: the published encoder of ST-DiT-2 is T5 v1.1 XXL with 200 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kinema.encoders.caption_cleaning import clean_caption
from kinema.encoders.pretrained import PretrainedText, check_width, from_source, library
from kinema.encoders.protocols import EncodedText


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """`source` is a folder with encoder (safetensors) and tokenizer, or a hub name (with `revision`).

    `clean` cleans captions as published. `width` is checked when the weights are loaded.
    """

    kind: Literal["t5"] = "t5"
    source: str = "DeepFloyd/t5-v1_1-xxl"
    revision: str = "main"
    subfolder: str = ""
    width: int = 4096
    max_tokens: int = 200
    clean: bool = True
    precision: Literal["fp32", "bf16"] = "fp32"

    def __post_init__(self) -> None:
        if self.width < 1 or self.max_tokens < 1:
            raise ValueError(
                f"width and max_tokens must be at least 1, got {self.width} and {self.max_tokens}"
            )


class T5TextEncoder(PretrainedText):
    """Of captions that are cleaned as published, where the config says so."""

    def __init__(self, config: T5Config) -> None:
        super().__init__(lambda: _load_encoder(config), config, config.subfolder)
        self.config = config

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> EncodedText:
        """Embed captions; padding is masked, the end mark is not, so that an empty caption has one token.

        On the CPU each caption passes by itself: its embedding is the same to the last bit in any batch.
        """
        ids, mask = (tokens.to(self.anchor.device) for tokens in self._tokens(captions))
        passes = 1 if self.anchor.device.type == "cpu" else max(1, len(ids))
        states: list[Tensor] = [
            self.part(input_ids=some, attention_mask=real).last_hidden_state
            for some, real in zip(torch.split(ids, passes), torch.split(mask, passes), strict=True)
        ]
        return EncodedText(torch.cat(states).float(), mask.bool())

    def unknown_words(self, caption: str) -> list[str]:
        """Words that the tokenizer has no pieces for."""
        spoken = self.prepared(caption).split()
        unknown = self.tokenizer.unk_token_id
        return [
            word
            for word in dict.fromkeys(spoken)
            if unknown is not None and unknown in self.tokenizer(word).input_ids
        ]

    def prepared(self, caption: str) -> str:
        """The caption as the tokenizer gets it."""
        return clean_caption(caption) if self.config.clean else caption

    def _tokens(self, captions: Sequence[str]) -> tuple[Tensor, Tensor]:
        found = self.tokenizer(
            [self.prepared(caption) for caption in captions],
            max_length=self.max_tokens,
            padding="max_length",
            truncation=True,
            return_attention_mask=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        return found.input_ids, found.attention_mask


def _load_encoder(config: T5Config) -> nn.Module:
    loaded = from_source(
        library("transformers").T5EncoderModel.from_pretrained,
        config.source,
        config.revision,
        config.subfolder,
        use_safetensors=True,
    )
    check_width(config.source, loaded.config.d_model, config.width)
    encoder: nn.Module = loaded.to(torch.bfloat16 if config.precision == "bf16" else torch.float32)
    return encoder
