from __future__ import annotations

import numpy as np
import pytest

from kinema.curate.filters import Bounds, FilterConfig
from kinema.curate.verdicts import Verdict
from kinema.errors import ConfigError
from kinema.studio.clip_index import ClipIndex
from kinema.studio.thresholds import BARS, Axis, Histograms, read_filters

OPEN = FilterConfig(
    duration_s=Bounds(), side=Bounds(), motion_score=Bounds(), text_area=Bounds(), near_duplicates=False
)


def moved(**bounds: Bounds) -> FilterConfig:
    return FilterConfig(**(OPEN.bounds() | bounds), near_duplicates=False)


def test_places_and_values_are_inverse() -> None:
    for axis in (Axis(0.0, 4.0, logarithmic=False), Axis(0.01, 100.0, logarithmic=True)):
        for share in (0.0, 0.3, 1.0):
            assert axis.place(axis.value(share)) == pytest.approx(share)
    assert Axis(0.0, 4.0, logarithmic=False).place(9.0) == 1.0


def test_an_axis_fits_its_values() -> None:
    generator = np.random.default_rng(0)
    values = generator.uniform(0, 1, 1000)
    assert Axis.of(values).high == values.max()
    assert Axis.of(np.append(values, 500.0)).high < 2  # one outlier does not flatten the rest
    assert Axis.of(generator.lognormal(0, 2, 1000)).logarithmic
    assert Axis.of(np.full(3, 7.0)) == Axis(6.5, 7.5, logarithmic=False)
    assert Axis.of(np.array([np.nan])) is None


def test_what_remains_is_counted_over_all_clips(index: ClipIndex) -> None:
    histograms = Histograms(*index.scores(), {})
    everything, _ = histograms.remains(OPEN)
    assert (everything.clips, everything.all_clips, everything.changed) == (100, 100, 34)
    remains, _ = histograms.remains(moved(motion_score=Bounds(min=2.5)))
    assert remains.clips == 100 - 24  # 0.1, 0.3 ... 2.3 in both sources; what has no score stays
    assert remains.hours == pytest.approx(76 / 3600)
    assert remains.reasons == [("motion_score < 2.5", 24)]
    chart = next(chart for chart in remains.charts if chart.score == "motion_score")
    assert (chart.measured, chart.dropped) == (50, 24)
    assert len(chart.bars) <= BARS
    assert max(bar.kept + bar.dropped for bar in chart.bars) == 1000


def test_verdicts_outweigh_filters(index: ClipIndex) -> None:
    verdicts = {
        "a001": Verdict(clip_id="a001", kept=True),
        "a049": Verdict(clip_id="a049", kept=False, reason="blurred"),
    }
    remains, _ = Histograms(*index.scores(), verdicts).remains(moved(motion_score=Bounds(min=2.5)))
    assert remains.clips == 76
    assert ("by hand", 1) in remains.reasons


def test_the_border_is_nearest_first_on_either_side(index: ClipIndex) -> None:
    histograms = Histograms(*index.scores(), {})
    _, found = histograms.remains(moved(motion_score=Bounds(min=2.45, drop_highest=0.1)))
    border = histograms.border(found, "motion_score.min")
    below = [round(histograms.value("motion_score", row), 1) for row in border.dropped]
    above = [round(histograms.value("motion_score", row), 1) for row in border.kept]
    assert below == [2.3, 2.3, 2.1, 2.1, 1.9, 1.9]
    assert above == [2.5, 2.5, 2.7, 2.7, 2.9, 2.9]
    top = histograms.border(found, "motion_score.drop_highest")
    assert histograms.value("motion_score", top.dropped[0]) > histograms.value("motion_score", top.kept[0])
    assert histograms.border(found, "fps.min") is None
    assert histograms.border(found, "") is None


def test_a_form_becomes_filters() -> None:
    base = FilterConfig(aesthetic_score=Bounds(min=4.0))
    form = {
        "motion_score.min": "0.5",
        "motion_score.max": "",
        "motion_score.drop_lowest": "25",
        "near_duplicates": "on",
        "camera_motion.static": "on",
    }
    config = read_filters(form, base)
    assert config.motion_score == Bounds(min=0.5, drop_lowest=0.25)
    assert config.aesthetic_score == Bounds(min=4.0)  # not on the form: as it was
    assert config.camera_motion == ("static",)
    assert config.near_duplicates


@pytest.mark.parametrize(
    "form",
    [
        {"fps.min": "many"},
        {"fps.min": "nan"},
        {"fps.min": "3", "fps.max": "2"},
        {"fps.min": "", "fps.drop_lowest": "200"},
    ],
)
def test_what_is_no_bound_is_refused(form: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"fps"):
        read_filters(form, FilterConfig())
