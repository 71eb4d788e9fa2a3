from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kinema.curate.captions import CaptionConfig
from kinema.curate.discover import discover
from kinema.curate.lists import read_list
from kinema.curate.pipeline import CurateConfig, curate
from kinema.errors import DatasetError
from kinema.manifest import read_clips


def test_text_lists_skip_empty_lines_and_comments(tmp_path: Path) -> None:
    (tmp_path / "all.txt").write_text(
        "\ufeff# mine\na.mp4\n\n  sub/ü b.mp4  \n/far/c.mp4\n", encoding="utf-8"
    )
    assert read_list(tmp_path / "all.txt") == [
        tmp_path / "a.mp4",
        tmp_path / "sub" / "ü b.mp4",
        Path("/far/c.mp4"),
    ]


@pytest.mark.parametrize("column", ["path", "file", "video", "url"])
def test_tables_name_their_sources_in_a_column(tmp_path: Path, column: str) -> None:
    (tmp_path / "all.csv").write_text(f'id,{column}\n1,"a, b.mp4"\n2,\n3,c.mp4\n')
    table = pa.table({"id": [1, 2, 3], column: ["a, b.mp4", None, "c.mp4"]})
    pq.write_table(table, tmp_path / "all.parquet")
    expected = [tmp_path / "a, b.mp4", tmp_path / "c.mp4"]
    assert read_list(tmp_path / "all.csv") == read_list(tmp_path / "all.parquet") == expected


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.txt", b"# nothing\n", "names no source"),
        ("a.txt", b"\xff\xfe\x00broken", "not text in UTF-8"),
        ("a.csv", b"id,name\n1,a.mp4\n", "needs a column path"),
        ("a.parquet", b"no table", "cannot be read as a list"),
    ],
)
def test_a_list_that_cannot_serve_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=rf"{name}.*{told}"):
        discover([tmp_path / name], tmp_path / "out")


def test_a_list_gives_sources_and_captions_and_a_missing_one_is_a_row(made: Path, tmp_path: Path) -> None:
    listing = tmp_path / "all.csv"
    listing.write_text(
        f"path,text\n{made / 'two_shots.mp4'},from the list\ngone.mp4,never seen\n{made},a folder\n"
    )
    config = CurateConfig(workers=0, captions=CaptionConfig(sidecars=False))
    summary = curate([listing], tmp_path / "out", config)
    assert summary.failed == {
        str(tmp_path / "gone.mp4"): "no such file",
        str(made): "is a folder; a list names files",
    }
    assert [clip.captions[0].text for clip in read_clips(tmp_path / "out")] == ["from the list"] * 2
