from __future__ import annotations

from kinema.bench.idle import run


def test_ranks_of_one_step_share_a_bucket_and_wait_at_most_a_third_as_long() -> None:
    figures = run(clips=6000, world=8, steps=12)["figures"]
    assert len(figures) == 3
    assert all(figure["met"] for figure in figures)
    assert all(figure["peer_value"] > 0.05 for figure in figures)
