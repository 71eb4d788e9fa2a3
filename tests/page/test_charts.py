from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from kinema.page.charts import Line, histogram, loss_curve, number, shares


def bars(chart: str, kind: str) -> list[tuple[float, float]]:
    """(x, height) of the bars of a kind."""
    root = ElementTree.fromstring(chart)
    found = [item for item in root.iter("rect") if item.get("class") == kind]
    return [(float(item.get("x", "")), float(item.get("height", ""))) for item in found]


def line_x(chart: str) -> float:
    (line,) = [
        item for item in ElementTree.fromstring(chart).iter("line") if item.get("class") == "threshold"
    ]
    return float(line.get("x1", ""))


def test_bars_are_as_tall_as_their_counts() -> None:
    chart = histogram("score", [0.0, 0.0, 1.0], [1.0])
    (low, high), (out,) = bars(chart, "bar"), bars(chart, "bar out")
    assert low[1] == pytest.approx(2 * high[1])
    assert high[1] == pytest.approx(out[1])
    assert low[0] < high[0] == out[0]


def test_the_threshold_lies_between_what_it_parts() -> None:
    chart = histogram("score", [3.0, 4.0], [0.0, 1.0], [Line(2.0, "below 2: out")])
    right_of_dropped = max(x for x, _ in bars(chart, "bar out"))
    assert right_of_dropped < line_x(chart) < min(x for x, _ in bars(chart, "bar")) + 0.5
    assert "below 2: out" in chart


def test_values_over_decades_get_a_logarithmic_axis() -> None:
    labels = re.findall(r'text-anchor="middle">([^<]+)<', histogram("s", [1.0, 10.0, 100.0, 1000.0], []))
    assert labels == ["1", "10", "100", "1000"]
    labels = re.findall(r'text-anchor="middle">([^<]+)<', histogram("s", [0.0, 1.0], []))
    assert labels == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


def test_one_value_and_none() -> None:
    assert len(bars(histogram("s", [0.0, 0.0], []), "bar")) == 1
    assert len(bars(histogram("s", [7.0], []), "bar")) == 1
    assert len(bars(histogram("s", [-7.0], []), "bar")) == 1
    assert histogram("s", [], []) == ""


def test_titles_are_escaped() -> None:
    assert "<i>" not in histogram("<i>", [1.0], [])
    assert "<s>" not in shares([("<s>", 0.5, "<s>")])


def test_shares_are_widths() -> None:
    assert 'style="width:25.00%"' in shares([("a", 0.25, "1 of 4")])


def test_loss_curve_falls_with_the_loss() -> None:
    points = re.search(r'points="([^"]+)"', loss_curve([(1, 1.0), (2, 0.1), (3, 0.01)]))
    assert points is not None
    heights = [float(pair.split(",")[1]) for pair in points[1].split()]
    assert heights == sorted(heights)
    assert len(heights) == 3
    assert "Too few" in loss_curve([(1, 1.0)])


@pytest.mark.parametrize(
    ("value", "told"), [(0, "0"), (0.05, "0.05"), (1234.6, "1235"), (0.00002, "2e-05"), (1 / 3, "0.333")]
)
def test_numbers_are_short(value: float, told: str) -> None:
    assert number(value) == told
