"""Options and fixtures that several test folders share."""

from __future__ import annotations

from pathlib import Path

import pytest


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
