from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from kinema.curate import overlay_text
from kinema.curate.overlay_text import TextConfig, TextScorer, text_area, text_areas
from kinema.errors import KinemaError

needs_rapidocr = pytest.mark.skipif(
    not overlay_text._installed(), reason="rapidocr is not installed (pip install 'kinema[text]')"
)
CONFIG = TextConfig(detect="on")


def subtitled(text: str, scale: float = 1.0, shade: int = 90) -> np.ndarray:
    """A subtitle with a dark outline, as players burn it in."""
    frame = np.full((360, 640, 3), shade, np.uint8)
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    place = ((640 - width) // 2, 330)
    for colour, thickness in ((0, 6), (255, 2)):
        shades = (colour, colour, colour)
        cv2.putText(frame, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, shades, thickness, cv2.LINE_AA)
    return frame


@needs_rapidocr
def test_a_subtitle_is_found_and_its_area_is_about_right() -> None:
    text, scale = "And then the rain began.", 1.0
    (width, height), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 2)
    true_area = width * (height + base) / (360 * 640)
    for frame in (subtitled(text, scale), subtitled(text, scale)[..., :1]):
        assert text_area(frame, CONFIG) == pytest.approx(true_area, rel=0.4)


@needs_rapidocr
def test_the_largest_area_of_first_middle_and_last_frame_counts() -> None:
    plain, titled = subtitled("")[..., :1], subtitled("A title here")[..., :1]
    frames = np.stack([plain, plain, plain, plain, titled])
    found = TextScorer(CONFIG)(frames, np.arange(5.0))["text_area"]
    assert found == text_area(titled, CONFIG) > 0


def test_a_picture_without_strong_edges_is_spared_the_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(config: TextConfig) -> None:
        raise AssertionError("the detector ran")

    monkeypatch.setattr(overlay_text, "_engine", fail)
    smooth = np.tile(np.linspace(0, 255, 640), (360, 1)).astype(np.uint8)[..., None]
    assert text_area(smooth, CONFIG) == 0.0


@needs_rapidocr
def test_a_frame_that_repeats_the_one_before_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    titled, plain = subtitled("A title here")[..., 0], subtitled("")[..., 0]
    read: list[float] = []
    before = overlay_text._readable
    monkeypatch.setattr(
        overlay_text, "_readable", lambda picture, config: read.append(1.0) or before(picture, config)
    )
    areas = text_areas(np.stack([titled, titled, plain, titled]), CONFIG)
    assert areas[0] == areas[1] == areas[3] > 0.01
    assert areas[2] == 0.0
    assert len(read) == 2


@needs_rapidocr
@pytest.mark.parametrize("word", ["OK", "No", "Stop", "2019"])
@pytest.mark.parametrize("place", [(30, 60), (500, 340), (290, 190)])
def test_short_words_are_found_anywhere_in_a_busy_picture(word: str, place: tuple[int, int]) -> None:
    blobs = np.random.default_rng(3).integers(60, 170, (36, 64), np.uint8)
    frame = cv2.resize(blobs, (640, 360), interpolation=cv2.INTER_CUBIC)
    for shade, thickness in ((0, 6), (255, 2)):
        cv2.putText(frame, word, place, cv2.FONT_HERSHEY_SIMPLEX, 0.9, shade, thickness, cv2.LINE_AA)
    assert text_area(frame[..., None], CONFIG) > 0.001


@pytest.mark.parametrize(
    ("readings", "counts"),
    [
        ([("Ja", 0.78), ("Ji1", 0.63)], False),
        ([("Ja", 0.78), ("Ji1", 0.63), ("Ja", 0.9)], True),
        ([("Hi", 0.65), ("H", 0.76), ("Hi", 0.99)], True),
        ([("H", 1.0), ("H", 1.0), ("H", 1.0)], False),
        ([("28", 0.6), ("28", 0.69)], False),
        ([("28", 0.95), ("", 0.0), ("Zs", 0.8)], False),
    ],
)
def test_two_of_the_readings_must_agree(readings: list[tuple[str, float]], counts: bool) -> None:
    assert overlay_text._agree(readings, CONFIG) == counts


@needs_rapidocr
def test_what_is_read_otherwise_the_second_time_is_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    config = TextConfig(detect="on", width=639)
    engine = overlay_text._engine(config)
    titled = subtitled("And then the rain")[..., :1]
    assert text_area(titled, config) > 0
    others = [SimpleNamespace(txts=[text], scores=[0.99]) for text in ("28 of 9", "wXkzq")]
    monkeypatch.setattr(engine, "recognize_txt", after_the_first(engine.recognize_txt, others))
    assert text_area(titled, config) == 0.0


def after_the_first(
    function: Callable[[list[np.ndarray]], object], others: list[SimpleNamespace]
) -> Callable[..., object]:
    """The function's own result at the first call, then each of the others."""
    calls = iter([None, *others])

    def called(pictures: list[np.ndarray]) -> object:
        other = next(calls)
        return function(pictures) if other is None else other

    return called


def test_without_rapidocr_the_error_names_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlay_text, "_installed", lambda: False)
    assert not TextConfig(detect="auto").active
    with pytest.raises(KinemaError, match=r"kinema\[text\]"):
        _ = TextConfig(detect="on").active


@needs_rapidocr
@pytest.mark.slow
def test_photographs_without_text_stay_below_one_per_cent() -> None:
    root = os.environ.get("KINEMA_FOOTAGE")
    if not root or not (Path(root) / "photos").is_dir():
        pytest.skip("set KINEMA_FOOTAGE to a folder that holds photos/")
    with_text = {"Portrait_0.jpg", "Portrait_6.jpg"}
    for path in sorted((Path(root) / "photos").iterdir()):
        picture = cv2.imread(str(path))
        width = min(640, picture.shape[1])
        size = (width, round(picture.shape[0] * width / picture.shape[1]))
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        assert (text_area(small[..., ::-1], CONFIG) > 0.01) == (path.name in with_text), path.name
