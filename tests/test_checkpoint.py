from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from kinema.checkpoint import (
    checkpoint_folders,
    fill_module,
    latest_checkpoint,
    load_checkpoint,
    read_tensors,
    save_checkpoint,
    write_tensors,
)
from kinema.errors import CheckpointError, OutputError


def save(folder: Path, step: int, keep: int = 3) -> Path:
    groups: dict[str, dict[str, Tensor]] = {"network": {"weight": torch.full((2, 3), float(step))}}
    return save_checkpoint(folder, step=step, groups=groups, state={"seed": 7}, keep=keep)


def test_round_trip(tmp_path: Path) -> None:
    loaded = load_checkpoint(save(tmp_path, 5))
    assert loaded.step == 5
    assert loaded.state == {"seed": 7}
    assert torch.equal(loaded.groups["network"]["weight"], torch.full((2, 3), 5.0))


def test_tied_and_strided_tensors_survive(tmp_path: Path) -> None:
    base = torch.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "tied.safetensors", {"a": base, "b": base.T})
    loaded = read_tensors(tmp_path / "tied.safetensors")
    assert torch.equal(loaded["b"], base.T)


def test_latest_is_by_number_and_old_ones_go(tmp_path: Path) -> None:
    for step in (2, 9, 10, 100):
        save(tmp_path, step, keep=2)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-00000010", "step-00000100"]
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.step == 100


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "state"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(
    tmp_path: Path, damage: str
) -> None:
    save(tmp_path, 1)
    newest = save(tmp_path, 2)
    tensors = newest / "network.safetensors"
    whole = tensors.read_bytes()
    match damage:
        case "cut":
            tensors.write_bytes(whole[:-4])
        case "altered":
            tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "gone":
            tensors.unlink()
        case _:
            (newest / "state.json").write_text("{")
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.step == 1
    assert "step-00000002" in latest.refused[0]


def test_only_damaged_checkpoints_is_an_error(tmp_path: Path) -> None:
    (save(tmp_path, 1) / "state.json").write_text('{"step": 1}')
    with pytest.raises(CheckpointError, match="no checkpoint"):
        latest_checkpoint(tmp_path)


def test_a_killed_save_leaves_no_half_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".step-00000002-99").mkdir()
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.step == 1


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        save(tmp_path / "file", 1)


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
