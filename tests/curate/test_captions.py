from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.curate.captions import CaptionConfig, CaptionSource
from kinema.errors import DatasetError
from kinema.location import filename_words
from kinema.manifest import Caption


def texts(source: Path, **config: object) -> list[tuple[str, str]]:
    captions = CaptionSource(CaptionConfig(**config)).captions(source)  # type: ignore[arg-type]
    return [(caption.text, caption.kind) for caption in captions]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("beach_sunset-1080p_02.mp4", "beach sunset"),
        ("DogRunsHome.mov", "dog runs home"),
        ("naïve файл 映像 (1) ü.mp4", "naïve файл 映像 ü"),
        ("20240101_123456.mp4", ""),
    ],
)
def test_words_of_a_file_name(name: str, words: str) -> None:
    assert filename_words(Path(name)) == words


def test_text_beside_the_source_wins_over_its_name(tmp_path: Path) -> None:
    (tmp_path / "dog.txt").write_text("a dog\nruns home\n\n\nthe same dog, seen from above\n")
    expected = [("a dog runs home", "sidecar"), ("the same dog, seen from above", "sidecar")]
    assert texts(tmp_path / "dog.mp4") == expected
    assert texts(tmp_path / "dog.mp4", sidecars=False) == [("dog", "filename")]
    assert texts(tmp_path / "dog.mp4", sidecars=False, filenames=False) == []


@pytest.mark.parametrize(
    "content",
    [{"caption": "a dog"}, {"captions": ["a dog"]}, ["a dog"], "a dog", {"captions": [{"text": "a  dog "}]}],
)
def test_json_beside_the_source(tmp_path: Path, content: object) -> None:
    (tmp_path / "clip.mp4.json").write_text(json.dumps(content))
    assert texts(tmp_path / "clip.mp4") == [("a dog", "sidecar")]


def test_table_by_path_or_name_and_each_text_once(tmp_path: Path) -> None:
    rows = [
        "path,text",
        "sub/dog.mp4,a dog",
        "sub/dog.mp4,a brown dog",
        "cat.mp4,a cat",
        f"{tmp_path}/x.mp4,an x",
    ]
    (tmp_path / "captions.csv").write_text("\n".join(rows))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "dog.txt").write_text("a dog")
    table = str(tmp_path / "captions.csv")
    assert texts(tmp_path / "sub" / "dog.mp4", table=table) == [("a dog", "table"), ("a brown dog", "table")]
    assert texts(tmp_path / "elsewhere" / "cat.mp4", table=table) == [("a cat", "table")]
    assert texts(tmp_path / "x.mp4", table=table) == [("an x", "table")]
    assert texts(tmp_path / "bird.mp4", table=table) == [("bird", "filename")]


def test_broken_inputs_name_the_file_and_the_mend(tmp_path: Path) -> None:
    (tmp_path / "dog.json").write_text("{not json")
    with pytest.raises(DatasetError, match=r"dog\.json: not valid JSON \(line 1\); mend or remove it"):
        texts(tmp_path / "dog.mp4")
    with pytest.raises(DatasetError, match="no such captions table"):
        CaptionSource(CaptionConfig(table=str(tmp_path / "gone.csv")))
    (tmp_path / "wrong.csv").write_text("file,caption\n")
    with pytest.raises(DatasetError, match="needs the columns path and text"):
        CaptionSource(CaptionConfig(table=str(tmp_path / "wrong.csv")))


def test_parts_kinds_and_makers_beside_the_source(tmp_path: Path) -> None:
    rows = [
        {"text": "a dog runs", "end_s": 5, "kind": "video", "model": "llava"},
        {"start_s": 5, "captions": ["a dog sleeps", "a tired dog"]},
    ]
    (tmp_path / "dog.json").write_text(json.dumps({"captions": rows}))
    (tmp_path / "dog.csv").write_text("text,start_s,kind\nit rains,3,image\n")
    captions = CaptionSource(CaptionConfig()).captions
    assert captions(tmp_path / "dog.mp4", 1.0) == (Caption(text="a dog runs", kind="video", model="llava"),)
    assert [(item.text, item.kind) for item in captions(tmp_path / "dog.mp4", 6.0)] == [
        ("a dog sleeps", "sidecar"),
        ("a tired dog", "sidecar"),
        ("it rains", "image"),
    ]


def test_a_csv_beside_the_source_may_be_about_something_else(tmp_path: Path) -> None:
    (tmp_path / "dog.csv").write_text("frame,x,y\n1,2,3\n")
    assert texts(tmp_path / "dog.mp4") == [("dog", "filename")]


def test_times_beside_the_source_must_be_seconds(tmp_path: Path) -> None:
    (tmp_path / "dog.json").write_text('{"text": "a dog", "start_s": "noon"}')
    with pytest.raises(DatasetError, match=r"dog\.json: start_s and end_s are seconds, got 'noon'"):
        texts(tmp_path / "dog.mp4")


def test_a_row_with_seconds_is_for_the_clips_inside(tmp_path: Path) -> None:
    table = tmp_path / "captions.csv"
    table.write_text("path,text,start_s,end_s\na.mp4,first,0,2\na.mp4,second,2,\na.mp4,always,,\n")
    source = CaptionSource(CaptionConfig(table=str(table)))
    texts = [[c.text for c in source.captions(tmp_path / "a.mp4", middle_s=at)] for at in (1.0, 2.0, 9.0)]
    assert texts == [["first", "always"], ["second", "always"], ["second", "always"]]
    table.write_text("path,text,start_s\na.mp4,first,soon\n")
    with pytest.raises(DatasetError, match=r"captions.csv, line 2: start_s and end_s are seconds"):
        CaptionSource(CaptionConfig(table=str(table)))
