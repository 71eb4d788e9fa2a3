from __future__ import annotations

from kinema.bench.studio import run


def test_every_page_is_measured() -> None:
    figures = run(parts=3, clips=20)["figures"]
    assert [figure["unit"] for figure in figures] == ["ms"] * 8 + ["s"]
    assert all(figure["value"] > 0 for figure in figures)
    assert {figure["target"] for figure in figures[:-1]} == {200.0}
