from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinema.dataset.buckets import Published, Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.windows import draw_window, grid_size, grid_times, windows
from kinema.manifest import Clip, read_clips


@pytest.fixture
def clip(dataset: Path) -> Clip:
    return next(clip for clip in read_clips(dataset) if clip.frames > 1)


def draws(clip: Clip, frames: int, config: DataConfig, count: int = 200) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [draw_window(clip, frames, config, generator).places for _ in range(count)]


def test_windows_stay_inside_and_reach_both_ends(clip: Clip) -> None:
    found = np.stack(draws(clip, 8, DataConfig()))
    assert found.min() == 0
    assert found.max() == grid_size(clip) - 1
    assert (np.diff(found, axis=1) == 3).all()


def test_a_clip_of_exactly_the_length_gives_every_third_frame(clip: Clip) -> None:
    found = {tuple(places) for places in draws(clip, 16, DataConfig())}
    assert found == {tuple(range(first, 48, 3)) for first in range(3)}


def test_a_slow_clip_shows_no_frame_twice(clip: Clip) -> None:
    slow = replace(clip, fps=5.0, frames=20, duration_s=4.0)
    for places in draws(slow, 16, DataConfig(bucketing=Timed(fps=8))):
        assert (np.diff(places) == 1).all()
    assert draw_window(slow, 16, DataConfig(), np.random.default_rng(0)).fps == 5.0


def test_published_windows_span_frames_times_interval(clip: Clip) -> None:
    long = replace(clip, frames=200, duration_s=200 / 24)
    for places in draws(long, 16, DataConfig(bucketing=Published())):
        assert places[-1] - places[0] == 47
        assert set(np.diff(places)) <= {3, 4}


def test_times_are_inside_the_clip(clip: Clip) -> None:
    later = replace(clip, start_s=3.0, end_s=5.0)
    times = grid_times(later, np.arange(grid_size(later)))
    assert times[0] == pytest.approx(3.0 + 0.5 / 24)
    assert 3.0 < min(times) < max(times) < 5.0


def test_windows_are_played_at_several_speeds_and_backwards(clip: Clip) -> None:
    config = DataConfig(bucketing=Timed(fps=8), speeds=(1.0, 3.0), backwards=True)
    steps = [int(np.diff(places)[0]) for places in draws(clip, 8, config)]
    assert {step: steps.count(step) > 30 for step in sorted(set(steps))} == dict.fromkeys(
        (-3, -1, 1, 3), True
    )
    told = {abs(int(np.diff(w.places)[0])): w.fps for w in windows(clip, 8, replace(config, windows=2))}
    assert told == {3: 8.0, 1: 24.0}


def test_a_number_of_windows_is_all_that_can_be_drawn(clip: Clip) -> None:
    config = DataConfig(windows=2, speeds=(1.0, 2.0), backwards=True)
    stored = [window.places.tolist() for window in windows(clip, 8, config)]
    assert len(stored) == 8
    assert all(places.tolist() in stored for places in draws(clip, 8, config))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"speeds": (0.5,)}, "at least 1"),
        ({"speeds": ()}, "at least 1"),
        ({"speeds": (2.0,), "bucketing": Published()}, "kind timed"),
    ],
)
def test_speeds_that_do_not_fit_are_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        DataConfig(**change)
