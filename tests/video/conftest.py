"""Where the real footage lies, when it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def footage() -> Path:
    """The folder of real clips: $KINEMA_FOOTAGE, or ../shared/footage beside the checkout."""
    folder = Path(os.environ.get("KINEMA_FOOTAGE") or ROOT.parent / "shared" / "footage")
    if not folder.is_dir():
        pytest.skip(f"no real footage in {folder} (set KINEMA_FOOTAGE)")
    return folder
