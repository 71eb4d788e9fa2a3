"""What a curation worker takes; apart from the other benchmarks, which bring torch into the process."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from kinema.curate.analysis import AnalysisConfig, analyse

_STATUS = Path("/proc/self/status")


def peak_bytes(path: Path) -> int:
    """Largest resident size of this process so far, after the default pass over a source."""
    analyse(path, AnalysisConfig(), threads=1)
    if _STATUS.exists():  # Linux hands `ru_maxrss` down from the process that started this one
        [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
