"""SVG that parses, names its sets, and draws in proportion."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from kinema.evaluate.plots import HEIGHT, MARGIN, histogram

SVG = "{http://www.w3.org/2000/svg}"


def test_two_sets_are_drawn_and_text_is_escaped() -> None:
    text = histogram("a < b", {"videos": np.array([1.0, 1.0, 2.0]), "against & co": np.array([3.0])}, bins=4)
    root = ElementTree.fromstring(text)
    words = [node.text for node in root.iter(f"{SVG}text")]
    assert {"a < b", "videos", "against & co", "1", "2", "3"} <= set(words)
    bars = [float(node.get("height")) for node in root.iter(f"{SVG}rect") if node.get("fill-opacity")]
    tall = HEIGHT - 2 * MARGIN
    assert bars == pytest.approx([2 / 3 * tall, 1 / 3 * tall, tall], abs=0.1)


def test_one_value_still_has_an_axis() -> None:
    ElementTree.fromstring(histogram("flat", {"videos": np.array([2.0, 2.0])}))
