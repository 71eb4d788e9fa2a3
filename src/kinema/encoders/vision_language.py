"""Vision-language models that run here, through transformers: by folder, or by name on the hub."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import UInt8

from kinema.errors import CaptionError, CheckpointError


class VisionLanguage:
    """Answers one at a time, without chance in it; models are loaded when they are first asked."""

    concurrency = 1

    def __init__(self, device: str = "", max_tokens: int = 300) -> None:
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._max_tokens = max_tokens
        self._loaded: dict[str, tuple[Any, Any]] = {}

    def answer(self, model: str, prompt: str, pictures: UInt8[np.ndarray, "t h w 3"] | None) -> str:
        """One answer. Raises `CheckpointError` for no such model, `CaptionError` for no words."""
        if model not in self._loaded:
            self._loaded[model] = self._load(model)
        processor, network = self._loaded[model]
        shown = list(pictures) if pictures is not None else []
        inputs = _inputs(processor, prompt, shown).to(self._device)
        with torch.inference_mode():
            made = network.generate(**inputs, max_new_tokens=self._max_tokens, do_sample=False)
        asked = inputs["input_ids"].shape[1] if _repeats_the_prompt(made, inputs["input_ids"]) else 0
        text = " ".join(processor.batch_decode(made[:, asked:], skip_special_tokens=True)[0].split())
        if not text:
            raise CaptionError(f"{model} answered with no words")
        return text

    @cached_property
    def _classes(self) -> tuple[Any, Any]:
        try:
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as error:
            raise CheckpointError(
                f"transformers is missing ({error}); pip install kinema[captions]"
            ) from error
        return AutoProcessor, AutoModelForImageTextToText

    def _load(self, model: str) -> tuple[Any, Any]:
        processors, networks = self._classes
        if Path(model).is_absolute() and not Path(model).is_dir():
            raise CheckpointError(f"{model}: no such folder; a model is a folder, or a name on the hub")
        try:
            processor = processors.from_pretrained(model)
            network = networks.from_pretrained(model, dtype="auto")
        except (OSError, ValueError, ImportError, KeyError) as error:
            told = " ".join(str(error).split())[:300]
            raise CheckpointError(f"{model}: no vision-language model can be loaded: {told}") from error
        return processor, network.to(self._device).eval()


class _Inputs(Protocol):
    """A batch of tensors by name."""

    def to(self, device: str) -> dict[str, torch.Tensor]: ...


class _Processor(Protocol):
    """What transformers calls a processor."""

    def __call__(
        self,
        *,
        text: list[str],
        images: list[UInt8[np.ndarray, "h w 3"]] | None = None,
        return_tensors: str,
    ) -> _Inputs: ...

    def apply_chat_template(
        self, conversation: list[dict[str, object]], *, add_generation_prompt: bool, tokenize: bool
    ) -> str: ...


def _inputs(processor: _Processor, prompt: str, pictures: list[UInt8[np.ndarray, "h w 3"]]) -> _Inputs:
    """By the model's chat template where it has one, else pictures and prompt as they are."""
    text = prompt
    if getattr(processor, "chat_template", None):
        content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": prompt}]
        messages: list[dict[str, object]] = [{"role": "user", "content": content}]
        text = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return processor(images=pictures or None, text=[text], return_tensors="pt")


def _repeats_the_prompt(made: torch.Tensor, asked: torch.Tensor) -> bool:
    """Decoder-only models give the prompt back before the answer."""
    length = asked.shape[1]
    return made.shape[1] >= length and bool((made[:, :length] == asked.to(made.device)).all())
