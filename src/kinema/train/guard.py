"""A step whose gradient is far larger than usual is left out."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class SpikeConfig:
    """Skip a step whose gradient norm is above `factor` times the median of the last `window` norms.

    Nothing is skipped before there are `patience` norms to compare with, nor with factor 0.
    """

    factor: float = 10.0
    window: int = 100
    patience: int = 20

    def __post_init__(self) -> None:
        if self.factor != 0 and self.factor <= 1:
            raise ValueError(f"factor must be 0 (off) or above 1, got {self.factor}")
        if not 1 <= self.patience <= self.window:
            raise ValueError(f"patience must be in 1..window ({self.window}), got {self.patience}")


class SpikeGuard:
    """Remembers norms, those of skipped steps too: a lasting rise soon counts as usual."""

    def __init__(self, config: SpikeConfig) -> None:
        self._config = config
        self._norms: deque[float] = deque(maxlen=config.window)
        self.skipped = 0

    def is_spike(self, norm: float) -> bool:
        """Whether to skip the step with this gradient norm; counts it if so."""
        known = len(self._norms) >= self._config.patience and self._config.factor > 0
        spike = known and norm > self._config.factor * statistics.median(self._norms)
        self._norms.append(norm)
        self.skipped += spike
        return spike

    def numbers(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"norms": list(self._norms), "skipped": self.skipped}

    def restore(self, numbers: Mapping[str, Any]) -> None:
        """What `numbers` returned."""
        self._norms.extend(float(norm) for norm in numbers.get("norms", ()))
        self.skipped = int(numbers.get("skipped", 0))
