from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from kinema.errors import CheckpointError, OutputError
from kinema.train.checkpoints import Checkpoints, checkpoint_folders, latest_checkpoint, load_checkpoint
from kinema.train.parallel import ParallelConfig, join


def save(folder: Path, *steps: int, keep: int = 3, keep_every: int = 0) -> Path:
    """Checkpoints of these steps; the folder of the last one."""
    with join(ParallelConfig()) as world:
        checkpoints = Checkpoints(folder, world, keep=keep, keep_every=keep_every)
        for step in steps:
            groups: dict[str, dict[str, Tensor]] = {
                "network": {"weight": torch.full((2, 3), float(step)), "scale": torch.tensor(0.5)},
                "optimizer": {"weight/step": torch.tensor(float(step))},
            }
            checkpoints.save(step, groups, {"seed": 7})
        checkpoints.wait()
    return folder / f"step-{steps[-1]:08d}"


def test_round_trip(tmp_path: Path) -> None:
    loaded = load_checkpoint(save(tmp_path, 5))
    assert loaded.step == 5
    assert loaded.state == {"seed": 7}
    assert torch.equal(loaded.groups["network"]["weight"], torch.full((2, 3), 5.0))
    assert loaded.groups["optimizer"] == {"weight/step": torch.tensor(5.0)}


def test_training_may_change_weights_while_they_are_written(tmp_path: Path) -> None:
    weight = torch.zeros(1000, 1000)
    with join(ParallelConfig()) as world:
        checkpoints = Checkpoints(tmp_path, world, keep=3)
        for step in (1, 2):
            weight.fill_(step)
            checkpoints.save(step, {"network": {"weight": weight}}, {})
            weight.fill_(-1)
        checkpoints.wait()
    for step in (1, 2):
        found = load_checkpoint(tmp_path / f"step-{step:08d}").group("network")["weight"]
        assert torch.equal(found, torch.full((1000, 1000), float(step)))


def test_nothing_is_pickled(tmp_path: Path) -> None:
    assert {path.suffix for path in save(tmp_path, 1).iterdir()} == {".safetensors", ".json"}


def test_latest_is_by_number_and_old_ones_go(tmp_path: Path) -> None:
    save(tmp_path, 2, 9, 10, 100, keep=2)
    assert [path.name for path in checkpoint_folders(tmp_path)] == ["step-00000010", "step-00000100"]
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.step == 100


def test_some_are_kept_for_good(tmp_path: Path) -> None:
    save(tmp_path, *range(1, 8), keep=1, keep_every=3)
    assert [int(path.name[5:]) for path in checkpoint_folders(tmp_path)] == [3, 6, 7]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path / "checkpoints") is None


@pytest.mark.parametrize("damage", ["cut", "altered", "gone", "state", "number"])
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_is_used(
    tmp_path: Path, damage: str
) -> None:
    newest = save(tmp_path, 1, 2)
    [tensors] = newest.glob("*.safetensors")
    whole, state = tensors.read_bytes(), newest / "state.json"
    match damage:
        case "cut":
            tensors.write_bytes(whole[:-4])
        case "altered":
            tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        case "gone":
            tensors.unlink()
        case "number":
            state.write_text(state.read_text().replace('"seed": 7', '"seed": 8'))
        case _:
            state.write_text("{")
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
    half = tmp_path / ".step-00000002"
    half.mkdir()
    (half / "state.json").write_text(json.dumps({"step": 2}))
    latest = latest_checkpoint(tmp_path)
    assert latest is not None
    assert latest.step == 1
    save(tmp_path, 3)
    assert not half.exists()


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        save(tmp_path / "file", 1)
