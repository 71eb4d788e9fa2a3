"""Which clips are kept: a pure function of a clip's row, so that filtering again needs no decoding."""

from __future__ import annotations

from dataclasses import dataclass, replace

from kinema.manifest import Clip


@dataclass(frozen=True, kw_only=True)
class FilterConfig:
    """Bounds; None is no bound. A score that was not computed drops nothing; images have no duration."""

    min_duration_s: float = 1.0
    min_side: int = 64
    min_motion: float | None = 0.05
    max_motion: float | None = None

    def __post_init__(self) -> None:
        if self.min_duration_s < 0 or self.min_side < 1:
            raise ValueError(f"got min_duration_s {self.min_duration_s} and min_side {self.min_side}")
        low, high = self.min_motion, self.max_motion
        if low is not None and high is not None and low >= high:
            raise ValueError(f"min_motion must be below max_motion, got {low} and {high}")


def filtered(clip: Clip, config: FilterConfig) -> Clip:
    """The clip with `kept` and `drop_reasons` set anew."""
    reasons = drop_reasons(clip, config)
    return replace(clip, kept=not reasons, drop_reasons=reasons)


def drop_reasons(clip: Clip, config: FilterConfig) -> tuple[str, ...]:
    """Every bound that the clip breaks, as the comparison that failed."""
    image = clip.frames == 1 and clip.fps == 0
    motion = clip.motion_score
    checks = (
        (not image and clip.duration_s < config.min_duration_s, f"duration_s < {config.min_duration_s:g}"),
        (min(clip.height, clip.width) < config.min_side, f"side < {config.min_side}"),
        (_below(motion, config.min_motion), f"motion_score < {config.min_motion}"),
        (_below(config.max_motion, motion), f"motion_score > {config.max_motion}"),
    )
    return tuple(reason for broken, reason in checks if broken)


def _below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound
