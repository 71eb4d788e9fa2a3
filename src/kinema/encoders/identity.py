"""What an encoder is, as a hash: equal for equal weights and settings, wherever they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kinema.encoders.pretrained import Pretrained, hub_commit
from kinema.encoders.protocols import Autoencoder, TextEncoder
from kinema.errors import CheckpointError

_WHERE = ("source", "revision", "subfolder")


def encoder_hash(encoder: Autoencoder | TextEncoder) -> str:
    """16 hexadecimal digits. A published encoder is told by its files, which need not be loaded."""
    config: Any = getattr(encoder, "config", None)
    settings = {} if config is None else asdict(config)
    digest = sha256(repr((type(encoder).__name__, _without_place(settings))).encode())
    if isinstance(encoder, Pretrained):
        parts = _published(settings)
    elif isinstance(encoder, nn.Module):
        parts = _tensors(encoder)
    else:
        raise TypeError(f"no hash for {type(encoder).__name__}")
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def _without_place(settings: dict[str, Any]) -> list[tuple[str, Any]]:
    return sorted((name, value) for name, value in settings.items() if name not in _WHERE)


def _tensors(module: nn.Module) -> Iterator[bytes]:
    for name, tensor in module.state_dict().items():
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        yield f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode()
        yield plain.numpy().tobytes()


def _published(settings: dict[str, Any]) -> Iterator[bytes]:
    source, subfolder = Path(settings["source"]), settings["subfolder"]
    if not source.is_dir():
        yield f"{settings['source']} {subfolder} {hub_commit(*(settings[name] for name in _WHERE))}".encode()
        return
    files = sorted(path for path in (source / subfolder).rglob("*") if path.is_file())
    if not files:
        raise CheckpointError(f"{source / subfolder} holds no file; name the folder of the encoder")
    for path in files:
        with path.open("rb") as file:
            yield f"{path.name} {file_digest(file, 'sha256').hexdigest()}".encode()
