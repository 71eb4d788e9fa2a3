from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from kinema.errors import KinemaError
from kinema.location import PackedFile, identity, is_url, located, open_bytes


def test_names_become_local_paths_or_addresses() -> None:
    assert located("a/b.mp4") == Path("a/b.mp4")
    assert not is_url("a/b.mp4")
    assert is_url("s3://bucket/a.mp4")
    assert identity(Path(__file__)) == ""


def test_an_address_that_nothing_reads_says_what_to_install() -> None:
    with pytest.raises(KinemaError, match=r"nosuch://b/a: reading it needs: pip install 'kinema\[s3\]'"):
        located("nosuch://b/a")


def test_an_address_has_the_methods_of_a_path() -> None:
    pytest.importorskip("upath", reason="universal-pathlib is not installed (extra s3)")
    path = located("memory://store/sub/a.mp4")
    path.write_bytes(b"0123456789")
    assert (str(path), path.name, path.suffix) == ("memory://store/sub/a.mp4", "a.mp4", ".mp4")
    assert pickle.loads(pickle.dumps(path)) == path
    with open_bytes(path) as file:
        assert file.seek(4) == 4
        assert (file.read(2), file.tell(), file.readinto(bytearray(9))) == (b"45", 6, 4)


def test_a_range_of_a_shard_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "s.tar").write_bytes(b"0123456789")
    packed = PackedFile(tmp_path / "s.tar", 3, 4)
    assert packed.read_bytes() == open_bytes(packed).read() == b"3456"
    assert (packed.stat().st_size, packed.is_file(), packed.suffix) == (4, True, ".mp4")
    assert PackedFile(tmp_path / "s.tar", 8, 4).stat().st_size == 2
    with pytest.raises(ValueError, match="only read"):
        packed.open("wb")
