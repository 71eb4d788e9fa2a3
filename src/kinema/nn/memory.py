"""How the C library keeps memory that tensors gave back."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Options of `mallopt`, as in malloc.h of the GNU C library."""
_LARGEST_MMAP_THRESHOLD = 2**25
_NEVER_TRIM = 2**31 - 1


@cache
def keep_freed_memory() -> bool:
    """Keep the memory of freed tensors for the next ones, in this process, from the first call on.

    By default the GNU C library gives the memory of a large tensor back to the system and fetches it anew,
    zeroed page by page: a tenth of the time of a training step (docs/decisions/0103). Returns whether the
    C library took the setting; others than the GNU one are left as they are.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and mallopt(_TRIM_THRESHOLD, _NEVER_TRIM))
