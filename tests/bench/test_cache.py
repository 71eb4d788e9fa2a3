from __future__ import annotations

import pytest

from kinema.bench.cache import run


# webdataset leaves its shards open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_the_figures_are_whole() -> None:
    pytest.importorskip("webdataset", reason="webdataset is not installed (extra dev)")
    found = run(windows=2, batches=2)
    cached, beside = found["figures"]
    assert cached["value"] == beside["value"] > 0
    assert cached["ratio"] > 1
    assert beside["peer"] == "webdataset over the same tensors"
    assert found["notes"] == []
