"""The seam for captioners: words and pictures in, words out. To merge captions needs no pictures."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from jaxtyping import UInt8

Pictures = UInt8[np.ndarray, "t h w 3"]


class Captioner(Protocol):
    """A vision-language model, or several behind one address."""

    concurrency: int

    def answer(self, model: str, prompt: str, pictures: Pictures | None) -> str:
        """One answer. Raises `CaptionError` when there is none for this clip, `CaptionsSpent` when nothing
        more may be asked, and another `KinemaError` when asking on makes no sense."""
        ...


class CaptionsSpent(Exception):  # noqa: N818 (an end, not a fault)
    """The cap on requests is reached."""
