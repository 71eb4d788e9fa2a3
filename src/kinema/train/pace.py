"""How much of the machine a run uses: tokens a second, share of the peak rate, memory."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Literal

import torch

from kinema.nn import NetworkConfig, STDiT2Config
from kinema.nn.flops import LatentShape, training_flops

_STATUS = Path("/proc/self/status")


def measured_peak(device: torch.device, precision: Literal["fp32", "bf16"], side: int = 1024) -> float:
    """Floating-point operations a second of a large matrix product here and now."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
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
    """Operations of a training step on so many clips; 0 for a network without a formula.

    The second forward pass of gradient checkpointing is not counted: it is use of the machine, not progress.
    """
    if not isinstance(config, STDiT2Config):
        return 0.0
    _, frames, height, width = latents
    shape = LatentShape(frames=frames, height=height, width=width, words=words)
    return clips * training_flops(config, shape)


def memory_mb(device: torch.device) -> float:
    """What this process holds: the most of the GPU's memory so far, else the machine's memory now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    lines = _STATUS.read_text(encoding="utf-8").splitlines() if _STATUS.is_file() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
