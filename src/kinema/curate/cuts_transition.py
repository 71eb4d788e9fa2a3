"""What a cut detector reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TransitionKind = Literal["hard", "fade", "dissolve"]


@dataclass(frozen=True, kw_only=True)
class Transition:
    """`start_index`: the first frame that is not purely the old shot; `end_index`: the first frame that
    is purely the new one. A hard cut has both equal. Indices count the frames that were pushed; a fade
    that opens the source starts at 0, one that ends it ends at the number of frames.

    `confidence` in (0, 1] says how far the evidence lies beyond the thresholds.
    """

    start_index: int
    end_index: int
    kind: TransitionKind
    confidence: float = 1.0

    def touches(self, start: int, end: int, margin: int = 1) -> bool:
        """Whether the frames from `start` to `end` come within `margin` of it."""
        return self.start_index - margin <= end and start <= self.end_index + margin
