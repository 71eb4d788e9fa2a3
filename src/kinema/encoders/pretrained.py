"""Weights that others published: from a folder or the Hugging Face hub, safetensors only, no code run."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kinema.errors import CheckpointError


class Pretrained(nn.Module):
    """A published part that is loaded when it is first used: a model that names it opens without it."""

    anchor: Tensor

    def __init__(self, load: Callable[[], nn.Module]) -> None:
        super().__init__()
        self._load = load
        self.register_buffer("anchor", torch.empty(0), persistent=False)

    @property
    def part(self) -> Any:  # noqa: ANN401 - a class of transformers or diffusers
        """The loaded part, on this module's device."""
        if "_part" not in self._modules:
            loaded = self._load()
            self.add_module("_part", loaded.eval().requires_grad_(False).to(self.anchor.device))
        return self._modules["_part"]


class TextConfig(Protocol):
    """What a published text encoder's config says of where it is and what it gives."""

    @property
    def source(self) -> str: ...
    @property
    def revision(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...


class PretrainedText(Pretrained):
    """A published text encoder with its tokenizer; not trained along, loaded when the first caption comes."""

    def __init__(self, load: Callable[[], nn.Module], config: TextConfig, tokenizer_folder: str) -> None:
        super().__init__(load)
        self._where = config
        self._tokenizer_folder = tokenizer_folder
        self._tokenizer: Any = None

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self._where.width

    @property
    def max_tokens(self) -> int:
        """Tokens of a padded caption."""
        return self._where.max_tokens

    @property
    def tokenizer(self) -> Any:  # noqa: ANN401 - a transformers tokenizer
        """Loaded when first used."""
        if self._tokenizer is None:
            self._tokenizer = from_source(
                library("transformers").AutoTokenizer.from_pretrained,
                self._where.source,
                self._where.revision,
                self._tokenizer_folder,
                trust_remote_code=False,
            )
        return self._tokenizer


def check_width(source: str, loaded: int, told: int) -> None:
    """Raise `CheckpointError` where the weights' width is not the one that the model was made with."""
    if loaded != told:
        raise CheckpointError(f"{source}: width is {loaded}, the model was made with {told}")


def library(name: str, extra: str = "models") -> Any:  # noqa: ANN401 - a module
    """An optional library, or a `CheckpointError` that names the extra."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise CheckpointError(
            f"this model's encoders need {name}; install it with: pip install 'kinema[{extra}]'"
        ) from error


def from_source(
    load: Callable[..., Any], source: str, revision: str, subfolder: str, **options: object
) -> Any:  # noqa: ANN401 - whatever `load` makes
    """Call a `from_pretrained`; a missing or unreachable source is a `CheckpointError` with the mend."""
    local = Path(source).is_dir()
    if not local and (source.startswith((".", "/", "~")) or source.count("/") != 1):
        raise CheckpointError(f"{source} is neither a folder nor a hub name such as owner/name")
    where = {} if local else {"revision": revision}
    if subfolder:
        where["subfolder"] = subfolder
    try:
        with warnings.catch_warnings():
            # The libraries warn of each other's deprecated arguments, which no user of this program can mend.
            warnings.simplefilter("ignore")
            return load(source, **where, **options)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        told = str(error).strip() or type(error).__name__
        mend = "check the folder" if local else "fetch it first, or name a folder that holds it"
        raise CheckpointError(f"{source} cannot be loaded: {told.splitlines()[0]}; {mend}") from error


def hub_commit(source: str, revision: str, subfolder: str) -> str:
    """The commit that a hub name and revision mean here: that of the fetched copy."""
    path = library("huggingface_hub").try_to_load_from_cache(
        source, "/".join(filter(None, [subfolder, "config.json"])), revision=revision
    )
    if not isinstance(path, str):
        raise CheckpointError(
            f"{source} is not on this machine; fetch it first, or name a folder that holds it"
        )
    parts = Path(path).parts
    return parts[parts.index("snapshots") + 1]
