from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from kinema.checkpoint import as_record
from kinema.train.config import TrainConfig


@pytest.fixture
def recipe(small_run: TrainConfig, tmp_path: Path) -> Path:
    """A file of ten small steps with two blocks, for runs in other processes."""
    deeper = replace(small_run.network, depth=2)
    config = replace(small_run, network=deeper, steps=10, save_every=5)
    path = tmp_path / "small.toml"
    path.write_text(tomli_w.dumps(_without_none(as_record(config))))
    return path


def _without_none(record: Any) -> Any:
    if isinstance(record, dict):
        return {key: _without_none(value) for key, value in record.items() if value is not None}
    return [_without_none(value) for value in record] if isinstance(record, list | tuple) else record
