"""Tensors and configs on disk: safetensors and JSON, checked on load."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn

from kinema.errors import CheckpointError, OutputError
from kinema.files import atomic_path, write_text

T = TypeVar("T")
TensorGroups = Mapping[str, Mapping[str, Tensor]]


def write_tensors(
    target: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write one safetensors file atomically."""
    with atomic_path(target) as temporary, _disk_errors(target):
        safetensors.torch.save_file(_plain(tensors), temporary, metadata=metadata)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read one safetensors file; a missing or damaged file is a `CheckpointError` that names it."""
    try:
        return safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as safetensors: {error}") from error


def fill_module(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Copy `tensors` into `module`; every key and shape must match, the first that does not is named."""
    check_fits(module, tensors, source)
    module.load_state_dict(dict(tensors))


def check_fits(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Raise `CheckpointError` for the first key that is missing, unknown or of another shape."""
    own = module.state_dict()
    for key in sorted(own.keys() | tensors.keys()):
        if key not in tensors:
            raise CheckpointError(f"{source} lacks {key}; it was made for another network shape")
        if key not in own:
            raise CheckpointError(f"{source} holds {key}, which this network does not have")
        if own[key].shape != tensors[key].shape:
            raise CheckpointError(
                f"{source}: {key} has shape {list(tensors[key].shape)}, "
                f"this network expects {list(own[key].shape)}"
            )


def as_record(config: Any) -> dict[str, Any]:  # noqa: ANN401 - any config dataclass
    """A frozen config dataclass as plain values for JSON or TOML."""
    return asdict(config)


def from_record(kind: type[T], record: Mapping[str, Any], source: str) -> T:
    """Build the config dataclass `kind` from a file's values; unknown keys and wrong types are refused."""
    known = [item.name for item in fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in record if key not in known]
    if unknown:
        raise CheckpointError(f"{source}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
    try:
        return TypeAdapter(kind).validate_python(dict(record))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise CheckpointError(f"{source}: {where or kind.__name__}: {first['msg']}") from error


def write_json(target: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON object atomically."""
    write_text(target, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a missing or damaged file is a `CheckpointError` that names it."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(record).__name__}")
    return record


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Own memory for each tensor: safetensors refuses views that share storage."""
    return {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}


@contextmanager
def _disk_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, safetensors.SafetensorError) as error:
        raise OutputError(
            f"cannot write {target}: {error}; free some space or choose another folder"
        ) from error
