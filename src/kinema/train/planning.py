"""What `kinema plan` says of all stages together: the sum of operations, and the time that they take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from kinema.train.forecast import Forecast, Measured, in_words


def plan_record(found: Sequence[Forecast], measured: Measured | str) -> dict[str, Any]:
    """Plain values; one stage is not wrapped in a table of stages."""
    stages = {one.name: one.as_dict() for one in found}
    plan = {"stages": stages} if len(found) > 1 else found[0].as_dict()
    told: dict[str, Any] = {"not_measured": measured} if isinstance(measured, str) else {}
    if isinstance(measured, Measured):
        seconds = sum(seconds_of(one, measured) for one in found)
        told = {
            "measured": asdict(measured) | {"flops_per_s": measured.rate, "peak_mb": measured.peak_mb},
            "seconds": seconds,
        }
    return plan | told


def seconds_of(forecast: Forecast, measured: Measured) -> float:
    """Of the stage, if each of its ranks works at the measured rate."""
    return forecast.flops / (measured.rate * forecast.ranks)


def as_text(found: Sequence[Forecast], measured: Measured | str, ranks: int, line: str) -> str:
    """For people: each stage, then what all of it takes, then how to start it."""
    parts = [f"stage {one.name}\n{one.as_text()}" if one.name else one.as_text() for one in found]
    total = sum(one.flops for one in found)
    steps = sum(one.steps for one in found)
    closing = [f"{steps} steps, {total:.3g} operations"]
    if isinstance(measured, str):
        closing += [measured, "on other processors: kinema simulate"]
    else:
        seconds = sum(seconds_of(one, measured) for one in found)
        where = "on this machine" if ranks == 1 else f"on {ranks} processes as fast as this one"
        closing[0] += f": {in_words(seconds)} {where}"
        closing.append(
            f"measured: {measured.clips} clips of {measured.bucket} in {measured.seconds:.2g} s "
            f"({measured.rate / 1e9:.3g} GFLOP/s), {measured.peak_mb:.0f} MB at most"
        )
        closing.append(measured.memory_text)
    return "\n\n".join([*parts, "\n".join(closing), f"to train:\n  {line}"])
