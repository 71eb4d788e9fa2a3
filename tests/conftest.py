from __future__ import annotations

import os

# Before anything imports torch: two test processes with a pool of threads each only fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
