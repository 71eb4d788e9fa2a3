from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kinema.curate.pipeline import CurateConfig, curate
from kinema.manifest import read_clips, read_sources

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(Path(__file__).parents[2] / "src"))
        ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
        yield
        ray.shutdown()


def test_both_engines_give_the_same_rows(made: Path, tmp_path: Path) -> None:
    curate([made], tmp_path / "ray", CurateConfig(engine="ray", workers=2))
    curate([made], tmp_path / "local", CurateConfig(workers=0))
    assert read_clips(tmp_path / "ray") == read_clips(tmp_path / "local")
    assert read_sources(tmp_path / "ray") == read_sources(tmp_path / "local")
    texts = [(tmp_path / name / "dataset.toml").read_text() for name in ("ray", "local")]
    assert texts[0] == texts[1]
    assert curate([made], tmp_path / "ray", CurateConfig(engine="ray")).decoded == 0
