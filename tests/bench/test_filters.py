from __future__ import annotations

from kinema.bench.filters import run


def test_figures_have_a_target() -> None:
    made = run(parts=3, clips=8)
    assert made["benchmark"] == "filters"
    assert [(figure["name"], figure["met"]) for figure in made["figures"]] == [
        ("filter 24 clips", True),
        ("report on 24 clips", True),
    ]
