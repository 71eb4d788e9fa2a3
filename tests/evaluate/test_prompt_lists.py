"""Lists of prompts: class shares, captions, VBench's counts, and that generate reads them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.errors import DatasetError
from kinema.evaluate.prompt_lists import shares, write_prompts
from kinema.generate.prompts import read_prompts


def classes(folder: Path, **counts: int) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"v_{name}_g01_c{number:02d}.avi").write_bytes(b"")
    return folder


def rows(table: Path) -> list[tuple[str, int]]:
    return [(line.config.prompt, line.config.seed) for line in read_prompts(table, {})]


def test_a_folder_a_class_gives_each_name_as_often_as_it_has_videos(tmp_path: Path) -> None:
    place = classes(tmp_path / "UCF-101", YoYo=3, ApplyEyeMakeup=5)
    made = write_prompts(place, tmp_path / "list.csv", seed=7)
    assert made == {"out": str(tmp_path / "list.csv"), "videos": 8, "prompts": 2}
    found = rows(tmp_path / "list.csv")
    assert Counter(prompt for prompt, _ in found) == {"ApplyEyeMakeup": 5, "YoYo": 3}
    assert [seed for _, seed in found] == list(range(7, 15))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.integers(1, 500))
def test_shares_are_kept_to_within_one_and_sum_to_the_total(counts: list[int], total: int) -> None:
    given_counts = {str(number): count for number, count in enumerate(counts)}
    kept = shares(given_counts, total)
    assert sum(kept.values()) == total
    for name, count in given_counts.items():
        assert abs(kept.get(name, 0) - count * total / sum(counts)) < 1


def test_so_many_in_all_or_of_each(tmp_path: Path) -> None:
    place = classes(tmp_path / "set", a=6, b=2)
    write_prompts(place, tmp_path / "few.csv", videos=4)
    assert [prompt for prompt, _ in rows(tmp_path / "few.csv")] == ["a", "a", "a", "b"]
    write_prompts(place, tmp_path / "each.csv", each=2)
    assert [prompt for prompt, _ in rows(tmp_path / "each.csv")] == ["a", "a", "b", "b"]
    with pytest.raises(DatasetError, match="leave one out"):
        write_prompts(place, tmp_path / "x.csv", videos=4, each=2)
    with pytest.raises(DatasetError, match="at least one video"):
        write_prompts(place, tmp_path / "x.csv", videos=0)


def test_a_sidecar_goes_before_the_folder(tmp_path: Path) -> None:
    place = classes(tmp_path / "set", dogs=1)
    (place / "dogs" / "v_dogs_g01_c00.avi.json").write_text('{"prompt": "two dogs, \\"asleep\\""}')
    write_prompts(place, tmp_path / "list.csv")
    assert rows(tmp_path / "list.csv") == [('two dogs, "asleep"', 0)]


def test_a_video_without_class_or_sidecar_is_named(tmp_path: Path) -> None:
    (tmp_path / "loose.mp4").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"loose\.mp4: no prompt; put the videos of a class into a folder"):
        write_prompts(tmp_path, tmp_path / "list.csv")


def test_the_list_of_vbench_asks_for_more_of_what_flickers(tmp_path: Path) -> None:
    still = {"prompt_en": "a  still\nlake", "dimension": ["temporal_flickering", "overall_consistency"]}
    listed = [{"prompt_en": "a dog", "dimension": ["color"]}, still, "a cat"]
    (tmp_path / "full.json").write_text(json.dumps(listed))
    write_prompts(tmp_path / "full.json", tmp_path / "list.csv")
    assert Counter(prompt for prompt, _ in rows(tmp_path / "list.csv")) == {
        "a dog": 5,
        "a still lake": 25,
        "a cat": 5,
    }


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "cannot be read as JSON"),
        ("[]", "not a list of prompts"),
        ('[{"prompt": "a"}]', r"entry 0: no text under"),
        ('["a", " "]', r"entry 1: .* is empty"),
    ],
)
def test_what_is_no_list_is_said(text: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(DatasetError, match=fault):
        write_prompts(tmp_path / "list.json", tmp_path / "list.csv")
