from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinema.dataset.packs import Packs, PackWriter, entry_key, folder_bytes, lossless, write_part
from kinema.errors import DatasetError


def tensors(count: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {entry_key(seed, n): torch.randn(2, n + 1, generator=generator) for n in range(count)}


def test_what_was_written_is_read_bit_for_bit_from_any_of_many_parts(tmp_path: Path) -> None:
    first, second = tensors(20), tensors(7, seed=1)
    second |= {entry_key("half"): torch.randn(3, 2).bfloat16(), entry_key("16"): torch.randn(3).half()}
    write_part(tmp_path, "a", first)
    write_part(tmp_path, "b", second)
    packs = Packs(tmp_path)
    assert len(packs) == 29
    for key, tensor in (first | second).items():
        read = packs.read(key)
        assert read.dtype == tensor.dtype
        assert torch.equal(read, tensor)
    assert entry_key("other") not in packs
    with pytest.raises(KeyError):
        packs.read(entry_key("other"))


def test_keys_that_agree_in_their_first_half_are_told_apart(tmp_path: Path) -> None:
    alike = {f"{7:016x}{low:016x}": torch.tensor([float(low)]) for low in range(5)}
    write_part(tmp_path, "a", alike)
    packs = Packs(tmp_path)
    for key, tensor in alike.items():
        assert torch.equal(packs.read(key), tensor)
    assert f"{7:016x}{9:016x}" not in packs


def test_an_altered_tensor_is_refused_and_a_cut_file_is_not_there(tmp_path: Path) -> None:
    made = tensors(4)
    write_part(tmp_path, "a", made)
    data = tmp_path / "part-a.safetensors"
    content = bytearray(data.read_bytes())
    content[-1] ^= 1
    data.write_bytes(bytes(content))
    packs = Packs(tmp_path)
    refused = 0
    for key, tensor in made.items():
        try:
            assert torch.equal(packs.read(key), tensor)
        except DatasetError as error:
            refused += "part-a" in str(error)
    assert refused == 1
    data.write_bytes(bytes(content[:-4]))
    cut = Packs(tmp_path)
    assert len(cut) == 0
    assert "part-a.safetensors" in cut.damaged


def test_a_part_without_its_table_is_not_there(tmp_path: Path) -> None:
    write_part(tmp_path, "a", tensors(4))
    (tmp_path / "part-a.parquet").unlink()
    assert len(Packs(tmp_path)) == 0


def test_newer_parts_are_seen_after_a_refresh(tmp_path: Path) -> None:
    packs = Packs(tmp_path)
    made = tensors(3)
    write_part(tmp_path, "a", made)
    assert next(iter(made)) not in packs
    packs.refresh()
    assert next(iter(made)) in packs


def test_a_writer_gathers_parts_and_stops_at_its_quota(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path, part_mb=4 * 1000 / 2**20, quota_bytes=20_000)
    for number in range(40):
        writer.add(entry_key(number), torch.zeros(250))
    writer.flush()
    assert writer.full
    assert 0 < writer.written < 40
    assert folder_bytes(tmp_path) <= 20_000 + 4_000
    assert len(Packs(tmp_path)) == writer.written


def test_half_the_bytes_only_where_nothing_is_lost() -> None:
    exact = torch.randn(100).bfloat16().float()
    assert lossless(exact).dtype == torch.bfloat16
    assert lossless(exact + 1e-3).dtype == torch.float32
