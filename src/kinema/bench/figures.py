"""What a benchmark prints, and how it times: interleaved rounds, medians, the matmul rate beside them."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal

import torch

from kinema.nn.precision import computing


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number. `ratio` is value / peer_value; `target` is a bound on `bounds`.

    `better` says in which direction the target is met: "higher" (at least) or "lower" (at most).
    """

    name: str
    value: float
    unit: str
    peer: str | None = None
    peer_value: float | None = None
    target: float | None = None
    bounds: Literal["ratio", "value"] = "ratio"
    better: Literal["higher", "lower"] = "higher"

    @property
    def ratio(self) -> float | None:
        """value / peer_value, or None without a peer."""
        return self.value / self.peer_value if self.peer_value else None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None without a target."""
        judged = self.ratio if self.bounds == "ratio" else self.value
        if self.target is None or judged is None:
            return None
        return judged >= self.target if self.better == "higher" else judged <= self.target

    def as_dict(self) -> dict[str, Any]:
        """The figure with its ratio and verdict."""
        return asdict(self) | {"ratio": self.ratio, "met": self.met}


def report(benchmark: str, figures: list[Figure], notes: Sequence[str] = ()) -> dict[str, Any]:
    """The object that `kinema bench NAME --json` prints. `notes` say what was not measured, and why."""
    return {
        "benchmark": benchmark,
        "machine": machine(),
        "figures": [figure.as_dict() for figure in figures],
        "notes": list(notes),
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "load_average": os.getloadavg()[0],
    }


def bf16_of(form: str) -> Callable[[], AbstractContextManager[None]]:
    """As kinema computes when it is asked for bf16; every other form has plain autocast."""
    if form == "kinema":
        return partial(computing, "cpu", "bf16")
    return partial(torch.autocast, "cpu", torch.bfloat16)


def interleaved(tasks: Mapping[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median wall seconds of each task; every round runs all of them, so that a noisy spell hits all alike.

    One unmeasured round warms up.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            start = time.perf_counter()
            task()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def matmul_task(
    rows: int, inner: int, columns: int, dtype: torch.dtype
) -> tuple[Callable[[], object], float]:
    """A matrix product of the caller's shapes and its floating-point operations: a floor to stand beside."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(rows, inner, generator=generator).to(dtype)
    right = torch.randn(inner, columns, generator=generator).to(dtype)
    return lambda: left @ right, 2.0 * rows * inner * columns


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123 (a kernel file, not a path of ours)
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
