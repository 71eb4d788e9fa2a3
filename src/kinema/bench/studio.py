"""Figures for the studio's pages over a made dataset of many clips: what a visitor waits for the server."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kinema.bench.figures import Figure, report
from kinema.bench.filters import write_manifest
from kinema.errors import ConfigError

TARGET_MS = 200.0
_ROUNDS = 7


def run(parts: int = 1000, clips: int = 100) -> dict[str, Any]:
    """Milliseconds of every page over `parts` x `clips` clips: medians, the pages interleaved."""
    try:
        from starlette.testclient import TestClient
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"this benchmark needs: pip install 'kinema[bench]' ({error})") from error

    from kinema.studio.app import create_app
    from kinema.studio.config import StudioConfig

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "dataset"
        write_manifest(folder, parts, clips)
        config = StudioConfig(out=Path(temporary) / "made", cache=Path(temporary) / "cache")
        began = time.perf_counter()
        app = create_app(config, [folder])
        opened = time.perf_counter() - began
        with TestClient(app, base_url="http://127.0.0.1:8600") as client:
            client.get("/enter")
            base = f"/data/{app.state.studio.places.all('dataset')[0].id}"
            measured = _interleaved(_pages(client, base, parts, clips))
    name = f"{parts * clips} clips"
    bounds: dict[str, Any] = {"target": TARGET_MS, "bounds": "value", "better": "lower"}
    figures = [Figure(name=f"{page}, {name}", value=value, unit="ms", **bounds) for page, value in measured]
    return report("studio", [*figures, Figure(name=f"opening {name}", value=opened, unit="s")])


def _pages(client: Any, base: str, parts: int, clips: int) -> dict[str, Callable[[], None]]:  # noqa: ANN401 - a test client
    page = client.get("/keys").text
    token = page.partition('data-token="')[2].partition('"')[0]
    moved = {"motion_score.min": "1.5", "motion_score.drop_highest": "10", "moved": "motion_score.min"}
    last = max(1, parts * clips // 48)

    def get(address: str) -> Callable[[], None]:
        return lambda: _good(client.get(address))

    return {
        "first page": get(base),
        "last page": get(f"{base}?page={last}"),
        "sorted by a score": get(f"{base}?sort=-motion_score"),
        "searched": get(f"{base}?q=wet+street&sort=duration_s"),
        "filtered by two columns": get(f"{base}?where=motion_score%3E%3D2&where=source_path~00"),
        "one clip": get(f"{base}/clip/{parts // 2:06d}{clips // 2:06d}"),
        "thresholds": get(f"{base}/filters"),
        "a threshold moved": lambda: _good(
            client.post(f"{base}/filters/preview", data=moved, headers={"x-csrf-token": token})
        ),
    }


def _good(answer: Any) -> None:  # noqa: ANN401 - of a test client
    assert answer.status_code == 200, answer.text[:200]


def _interleaved(pages: dict[str, Callable[[], None]]) -> list[tuple[str, float]]:
    """Median milliseconds of each; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in pages}
    for turn in range(_ROUNDS + 1):
        for name, ask in pages.items():
            began = time.perf_counter()
            ask()
            if turn:
                taken[name].append(1000 * (time.perf_counter() - began))
    return [(name, statistics.median(values)) for name, values in taken.items()]
