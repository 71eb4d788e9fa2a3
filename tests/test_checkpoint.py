from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from kinema.checkpoint import fill_module, read_tensors, write_tensors
from kinema.errors import CheckpointError, OutputError


def test_tied_and_strided_tensors_survive(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "tied.safetensors", {"a": base, "b": base.T})
    loaded = read_tensors(tmp_path / "tied.safetensors")
    assert torch.equal(loaded["b"], base.T)


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        write_tensors(tmp_path / "file" / "a.safetensors", {"a": torch.zeros(1)})


def test_another_shape_names_the_key_and_both_shapes() -> None:
    with pytest.raises(CheckpointError, match=r"weight has shape \[4, 3\], this network expects \[2, 3\]"):
        fill_module(nn.Linear(3, 2, bias=False), {"weight": torch.zeros(4, 3)}, "a.safetensors")


def test_missing_and_foreign_keys_are_named() -> None:
    with pytest.raises(CheckpointError, match="lacks bias"):
        fill_module(nn.Linear(3, 2), {"weight": torch.zeros(2, 3)}, "a.safetensors")
    with pytest.raises(CheckpointError, match="holds gain"):
        fill_module(nn.Linear(3, 2, bias=False), {"weight": torch.zeros(2, 3), "gain": torch.zeros(1)}, "a")


def test_a_text_file_is_not_safetensors(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("hello")
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        read_tensors(tmp_path / "model.safetensors")
