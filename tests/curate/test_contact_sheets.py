from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kinema.curate.contact_sheets import Rows, Thumbnails, sheets
from kinema.curate.filters import Check
from kinema.video.writer import write_image


def told(values: list[float], cut: float, *, below: bool = True, folder: Path = Path("/nowhere")) -> dict:
    """Names of the clips on each sheet."""
    scores = np.array(values)
    broken = scores < cut if below else scores > cut
    rows = Rows(
        clip_ids=[f"c{index}" for index in range(len(values))],
        names=[f"<{index}>" for index in range(len(values))],
        start_s=np.zeros(len(values)),
        kept=~broken,
        reasons=[["why"] if out else [] for out in broken],
    )
    check = Check("motion_score", "why", cut, below, broken, "motion_score.min=1")
    found = sheets(check, scores, rows, Thumbnails(folder, 10_000))
    return {title: [int(name) for name in re.findall(r"<span>&lt;(\d+)&gt;", page)] for title, page in found}


def test_worst_borderline_and_best() -> None:
    rising = told([float(index) for index in range(40)], cut=20)
    assert rising["worst"] == [0, 1, 2, 3, 4, 5]
    assert rising["borderline"] == [17, 18, 19, 20, 21, 22]
    assert rising["best"] == [39, 38, 37, 36, 35, 34]


def test_where_high_is_bad_the_highest_is_the_worst() -> None:
    falling = told([float(index) for index in range(40)], cut=19, below=False)
    assert falling["worst"][0] == 39
    assert falling["borderline"] == [22, 21, 20, 19, 18, 17]
    assert falling["best"][0] == 0


def test_no_clip_is_on_two_sheets_and_none_unmeasured() -> None:
    few = told([1.0, 5.0, float("nan"), 6.0, 7.0, 8.0], cut=3)
    assert few == {"worst": [0], "borderline": [1, 3, 4], "best": [5]}


def test_a_picture_is_in_the_page_once(tmp_path: Path) -> None:
    write_image(tmp_path / "thumbnails" / "c1.jpg", np.full((90, 400, 3), 80, np.uint8))
    pictures = Thumbnails(tmp_path, 10_000)
    first, second = pictures.picture("c1", "a"), pictures.picture("c1", "b")
    assert ("t-c1" in first, "t-c1" in second, "t-c2" in pictures.picture("c2", "gone")) == (
        True,
        True,
        False,
    )
    assert pictures.style().count("base64") == 1
    assert pictures.left_out == 0
