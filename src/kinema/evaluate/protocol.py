"""What a number was measured with. Numbers of unlike protocols are not compared."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError
from kinema.evaluate.sampling import Sampling


class ProtocolError(KinemaError):
    """Results that were measured in different ways; names the first difference."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that changes a distance without changing the videos.

    The number of videos is part of it because the Fréchet distance falls as it grows.
    """

    features: str
    sampling: Sampling
    videos: int
    against: str
    against_videos: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def require_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    """Raise `ProtocolError` naming every entry in which two protocols differ."""
    one, other = _flat(first), _flat(second)
    differing = [key for key in sorted(one | other) if one.get(key) != other.get(key)]
    if differing:
        named = "; ".join(f"{key} {one.get(key)!r} and {other.get(key)!r}" for key in differing)
        raise ProtocolError(f"not comparable, measured differently: {named}; evaluate both in one way")


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def compare_results(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Metrics of several `evaluation.json` side by side, by metric and file.

    Raises `ProtocolError` when they were not measured alike.
    """
    results = {str(path): _read(path) for path in paths}
    first, *others = results
    for other in others:
        require_same(results[first]["protocol"], results[other]["protocol"])
    metrics = sorted({metric for result in results.values() for metric in result["metrics"]})
    return {
        metric: {path: result["metrics"].get(metric) for path, result in results.items()}
        for metric in metrics
    }


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ProtocolError(f"{path}: cannot be read as JSON ({error}); give an evaluation.json") from error
    if not isinstance(found, dict) or "protocol" not in found or "metrics" not in found:
        raise ProtocolError(f"{path}: not a result of kinema evaluate; give an evaluation.json")
    return found
