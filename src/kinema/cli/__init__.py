"""The command line: `main` is what `kinema` runs."""

from __future__ import annotations

from kinema.cli.app import main

__all__ = ["main"]
