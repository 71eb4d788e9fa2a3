from __future__ import annotations

from pathlib import Path

import pytest

from kinema.curate.discover import discover
from kinema.errors import DatasetError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "a.mp4",
        "b.MOV",
        "c.txt",
        "sub/d.webm",
        "sub/e.jpg",
        ".hidden.mp4",
        ".cache/f.mp4",
        "g.dat",
    ):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return tmp_path / "in"


def names(paths: list[Path], root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in paths]


def test_folder_gives_known_suffixes_at_any_depth(tree: Path, tmp_path: Path) -> None:
    assert names(discover([tree], tmp_path / "out"), tree) == ["a.mp4", "b.MOV", "sub/d.webm", "sub/e.jpg"]


def test_named_file_is_tried_whatever_its_suffix(tree: Path, tmp_path: Path) -> None:
    assert names(discover([tree / "g.dat"], tmp_path / "out"), tree) == ["g.dat"]


def test_glob_and_overlapping_inputs_give_each_file_once(tree: Path, tmp_path: Path) -> None:
    inputs = [str(tree / "*.mp4"), tree / "a.mp4", tree / "sub", str(tree / "**" / "*.jpg")]
    assert names(discover(inputs, tmp_path / "out"), tree) == ["a.mp4", "sub/d.webm", "sub/e.jpg"]


def test_relative_paths_become_absolute(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    assert discover([Path("a.mp4")], Path("out")) == [tree / "a.mp4"]


def test_the_dataset_inside_the_footage_is_left_out(tree: Path) -> None:
    (tree / "data" / "thumbnails").mkdir(parents=True)
    (tree / "data" / "thumbnails" / "x.jpg").write_bytes(b"x")
    assert "data/thumbnails/x.jpg" not in names(discover([tree], tree / "data"), tree)


@pytest.mark.parametrize("item", ["gone.mp4", "gone/", "gone/*.mp4"])
def test_missing_input_is_named(tmp_path: Path, item: str) -> None:
    with pytest.raises(DatasetError, match="gone"):
        discover([tmp_path / item], tmp_path / "out")


def test_an_empty_name_is_not_this_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="an empty name"):
        discover([""], tmp_path / "out")


def test_empty_folder_is_an_error_that_says_what_to_name(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"no video or image files; name files, folders or globs"):
        discover([tmp_path / "empty"], tmp_path / "out")
