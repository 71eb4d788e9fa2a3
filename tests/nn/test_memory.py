"""Freed memory is kept for the next tensors."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from kinema.nn.memory import keep_freed_memory

FAULTS = """
import resource, sys
import torch
from kinema.nn.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(5):  # until the heap has found its shape
    tensors = [torch.ones(2**22) for _ in range(8)]
    del tensors
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    tensors = [torch.ones(2**22) for _ in range(8)]
    del tensors
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Of a process in which every large tensor is fetched from the system unless it asks for another way.

    Left alone, the C library moves its threshold by what it has seen, and may or may not keep the memory.
    """
    command = [sys.executable, "-c", FAULTS, how]
    settings = os.environ | {"MALLOC_MMAP_THRESHOLD_": "131072"}
    return int(subprocess.run(command, check=True, capture_output=True, text=True, env=settings).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is the GNU C library's")
def test_pages_are_fetched_once():
    assert keep_freed_memory()
    assert faults("keep") * 10 < faults("default")
