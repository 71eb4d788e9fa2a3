from __future__ import annotations

import pytest

from kinema.bench.train import run


@pytest.mark.slow
def test_the_figures_are_whole() -> None:
    figures = {figure["name"]: figure for figure in run(steps=3, long_steps=0, gigabytes=0.01)["figures"]}
    assert figures["two processes over one"]["value"] > 0
    assert figures["resume from a checkpoint of 0.01 GB"]["met"]
    assert 0 <= figures["waiting for a batch, from the cache"]["value"] < 1
    assert len(figures) == 5
