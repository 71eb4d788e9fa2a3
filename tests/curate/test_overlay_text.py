from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from kinema.curate import overlay_text
from kinema.curate.overlay_text import TextConfig, TextScorer, rows_with_strokes, text_area
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
    assert not rows_with_strokes(smooth).any()
    assert text_area(smooth, CONFIG) == 0.0


@pytest.mark.parametrize("channels", [1, 3])
def test_only_rows_that_may_hold_text_are_looked_at(channels: int) -> None:
    rows = np.flatnonzero(rows_with_strokes(subtitled("OK")[..., :channels]))
    assert 270 < rows.min() < 310
    assert 330 < rows.max() < 360


def test_an_edge_is_no_stroke() -> None:
    step = np.where(np.arange(640) < 320, 40, 220).astype(np.uint8)
    assert not rows_with_strokes(np.tile(step, (360, 1))[..., None]).any()


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
