"""Unlike protocols are refused by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.evaluate.protocol import Protocol, ProtocolError, compare_results, require_same
from kinema.evaluate.sampling import Sampling


def protocol(**changes) -> dict:
    fields = {"features": "i3d", "sampling": Sampling(), "videos": 10, "against": "aa", "against_videos": 20}
    return Protocol(**fields | changes).as_dict()


def test_equal_protocols_pass_and_every_difference_is_named() -> None:
    require_same(protocol(), protocol())
    with pytest.raises(ProtocolError, match=r"features 'i3d' and 'random'; sampling\.fps 25\.0 and 8"):
        require_same(protocol(), protocol(features="random", sampling=Sampling(fps=8)))
    with pytest.raises(ProtocolError, match="videos 10 and 11"):
        require_same(protocol(), protocol(videos=11))
    with pytest.raises(ProtocolError, match="most_frames None and 3"):
        require_same(protocol(), protocol() | {"most_frames": 3})


def test_results_are_compared_side_by_side_or_not_at_all(tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, value in zip(paths, (1.0, 2.0), strict=True):
        path.write_text(
            json.dumps({"protocol": protocol(), "metrics": {"frechet_distance": {"value": value}}})
        )
    table = compare_results(paths)
    assert [table["frechet_distance"][str(path)]["value"] for path in paths] == [1.0, 2.0]
    paths[1].write_text(json.dumps({"protocol": protocol(videos=3), "metrics": {}}))
    with pytest.raises(ProtocolError, match="not comparable"):
        compare_results(paths)
    paths[1].write_text("[]")
    with pytest.raises(ProtocolError, match="not a result"):
        compare_results(paths)
    with pytest.raises(ProtocolError, match="cannot be read"):
        compare_results([tmp_path / "none.json"])
