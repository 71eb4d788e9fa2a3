"""What `precision = "bf16"` multiplies in."""

from __future__ import annotations

import logging
import platform
from functools import cache
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16"]

_log = logging.getLogger(__name__)


def processor() -> str:
    """What the operating system says of the processor."""
    described = Path("/proc/cpuinfo")
    return described.read_text(encoding="utf-8") if described.exists() else platform.processor()


def _float32_is_faster() -> bool:
    """Of x86 processors only those with AMX, and AMD's with AVX512-BF16, multiply bfloat16 faster."""
    if platform.machine().lower() not in {"x86_64", "amd64"} or torch.cpu._is_amx_tile_supported():
        return False
    return not (torch.cpu._is_avx512_bf16_supported() and "AuthenticAMD" in processor())


FLOAT32_IS_FASTER = _float32_is_faster()


def computing(device: str, precision: Precision) -> torch.autocast:
    """The context in which a network computes: autocast to bfloat16 in bf16, unless `computed_in` differs."""
    enabled = computed_in(device, precision) == torch.bfloat16
    if precision == "bf16" and not enabled:
        _tell()
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


def computed_in(device: str, precision: Precision) -> torch.dtype:
    """bfloat16 where it is asked for and pays; else float32, which some processors multiply faster."""
    pays = device != "cpu" or not FLOAT32_IS_FASTER
    return torch.bfloat16 if precision == "bf16" and pays else torch.float32


@cache
def _tell() -> None:
    _log.warning("precision bf16: this processor multiplies float32 faster, and computes in it")
