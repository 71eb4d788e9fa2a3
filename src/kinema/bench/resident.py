"""The largest resident size of this process; apart, so that whoever measures it need not bring torch."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_bytes() -> int:
    """So far."""
    if _STATUS.exists():  # Linux hands `ru_maxrss` down from the process that started this one
        [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM")]
        return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
