"""What a curation worker takes; apart from the other benchmarks, which bring torch into the process."""

from __future__ import annotations

from pathlib import Path

from kinema.bench import resident
from kinema.curate.analysis import AnalysisConfig, analyse


def peak_bytes(path: Path) -> int:
    """Largest resident size of this process so far, after the default pass over a source."""
    analyse(path, AnalysisConfig(), threads=1)
    return resident.peak_bytes()
