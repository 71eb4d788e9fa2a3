"""Options and fixtures that several test folders share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Before anything imports torch: two test processes with a pool of threads each only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_addoption(parser: pytest.Parser) -> None:
    # pytest has an option of this name (its list of fixtures, also called --funcargs): take the name over.
    parser._anonymous._arggroup.conflict_handler = "resolve"
    parser.addoption(
        "--fixtures",
        dest="fixtures_folder",
        metavar="DIR",
        type=Path,
        default=Path(__file__).parent / "fixtures",
        help="folder of parity fixtures (opensora/..., svd/...)",
    )
