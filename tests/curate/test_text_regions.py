from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinema.curate.text_regions import (
    Region,
    changed_cells,
    sheet,
    stroke_cells,
    text_regions,
    within,
)


def written(
    words: str, place: tuple[int, int] = (200, 330), shape: tuple[int, int] = (360, 640)
) -> np.ndarray:
    frame = np.full(shape, 90, np.uint8)
    for shade, thickness in ((0, 6), (255, 2)):
        cv2.putText(frame, words, place, cv2.FONT_HERSHEY_SIMPLEX, 1.0, shade, thickness, cv2.LINE_AA)
    return frame


@pytest.mark.parametrize("shape", [(360, 640), (427, 640), (361, 639), (1138, 640), (40, 64)])
def test_a_word_lies_in_one_region_with_a_margin(shape: tuple[int, int]) -> None:
    frame = written("And then", (4, min(330, shape[0] - 8)), shape)
    rows, columns = (np.flatnonzero((frame != 90).any(axis=axis)) for axis in (1, 0))
    [region] = text_regions(stroke_cells(frame), shape)
    assert region.left <= columns.min()
    assert columns.max() < region.right <= shape[1]
    assert 0 <= region.top <= rows.min()
    assert rows.max() < region.bottom <= shape[0]


def test_edges_and_slow_changes_are_no_strokes() -> None:
    step = np.tile(np.where(np.arange(640) < 320, 40, 220).astype(np.uint8), (360, 1))
    slope = np.tile(np.linspace(0, 255, 640), (360, 1)).astype(np.uint8)
    assert not stroke_cells(step).any()
    assert not stroke_cells(slope).any()


def test_only_where_text_came_or_went_something_changed() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (360, 640))
    noisy = np.clip(written("") + noise, 0, 255).astype(np.uint8)
    assert not changed_cells(written(""), noisy).any()
    for before, after in ((written(""), written("OK")), (written("OK"), written(""))):
        changed = changed_cells(before, after)
        word = np.array([[202, 312], [240, 312], [240, 330], [202, 330]], np.float32)
        assert changed[within(word, (360, 640))].all()
        assert not changed[: 280 // 8].any()


boxes = st.tuples(st.integers(0, 600), st.integers(0, 320), st.integers(1, 300), st.integers(1, 120))


@given(st.lists(boxes, max_size=8))
def test_a_sheet_holds_every_region_once_and_marks_go_back(found: list[tuple[int, int, int, int]]) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (360, 640), np.uint8)
    apart: list[Region] = []
    for left, top, width, height in found:
        region = Region(left, top, min(left + width, 640), min(top + height, 360))
        if not any(region.meets(other) for other in apart):
            apart.append(region)
    made = sheet(frame, apart)
    assert made.pixels.shape[1] <= 640
    assert sorted(made.regions) == sorted(apart)
    for (left, top, right, bottom), (x, y) in zip(made.regions, made.places, strict=True):
        seen = made.pixels[y : y + bottom - top, x : x + right - left]
        assert (seen == frame[top:bottom, left:right]).all()
        corners = np.array([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]], np.float32)
        assert made.in_frame(corners)[0].tolist() == [left, top]


def test_regions_that_meet_are_joined() -> None:
    cells = np.zeros((45, 80), np.bool_)
    cells[10, 10:14] = cells[12, 18:22] = cells[40, 60:62] = True
    found = text_regions(cells, (360, 640))
    assert len(found) == 2
    assert not found[0].meets(found[1])
