"""How much of the machine a run uses: tokens a second, share of the peak rate, memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from kinema.nn import NetworkConfig, STDiT2Config
from kinema.nn.counting import step_cost
from kinema.nn.flops import LatentShape
from kinema.nn.precision import Precision, computed_in

_STATUS, _CLEAR, _MEMINFO = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


def measured_peak(device: torch.device, precision: Precision, side: int = 1024) -> float:
    """Floating-point operations a second of a large matrix product here and now."""
    dtype = computed_in(device.type, precision)
    side = side if device.type == "cpu" else 8 * side
    matrix = torch.ones(side, side, device=device, dtype=dtype)
    seconds = []
    for _ in range(4):
        _finish(device)
        began = time.perf_counter()
        matrix @ matrix
        _finish(device)
        seconds.append(time.perf_counter() - began)
    return 2.0 * side**3 / statistics.median(seconds[1:])


def batch_tokens(config: NetworkConfig, latents: tuple[int, ...], clips: int) -> int:
    """Tokens of the network in a batch of latents `c t h w`; cells where the network has no patches."""
    _, frames, height, width = latents
    pt, ph, pw = config.patch_size if isinstance(config, STDiT2Config) else (1, 1, 1)
    return clips * -(-frames // pt) * -(-height // ph) * -(-width // pw)


def batch_flops(config: NetworkConfig, latents: tuple[int, ...], words: int, clips: int) -> float:
    """Operations of a training step on so many clips.

    The second forward pass of gradient checkpointing is not counted: it is use of the machine, not progress.
    """
    _, frames, height, width = latents
    shape = LatentShape(frames=frames, height=height, width=width, words=words)
    return clips * step_cost(config, shape).flops


def memory_mb(device: torch.device) -> float:
    """What this process holds: the most of the GPU's memory so far, else the machine's memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _told_mb(_STATUS, "VmRSS")


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Yield what tells the most that this process has held since then, in MB."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield lambda: torch.cuda.max_memory_allocated(device) / 2**20
        return
    with suppress(OSError):  # where the kernel does not allow it, the peak of the whole life is told
        _CLEAR.write_text("5", encoding="ascii")
    yield lambda: _told_mb(_STATUS, "VmHWM")


def free_memory_mb(device: torch.device) -> float:
    """What is left for this process; infinite where the machine does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**20
    return _told_mb(_MEMINFO, "MemAvailable") or float("inf")


def _told_mb(file: Path, name: str) -> float:
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
