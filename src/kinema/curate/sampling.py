"""The seam for scorers: each says which frames it wants, and all are fed from one decode.

Cuts are known only after the pass, so the few small frames that scorers want are kept until then, in
memory up to a limit and in an unnamed temporary file beyond it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile, gettempdir
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8

from kinema.errors import OutputError
from kinema.shapes import Size
from kinema.video.reader import Picture, SourceInfo

_IN_MEMORY_BYTES = 48 << 20

Score = float | str | None


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Frames at most `fps` a second and at most `width` pixels wide; scorers with equal ones share them."""

    fps: float
    width: int
    grey: bool = False

    def __post_init__(self) -> None:
        if self.fps <= 0 or self.width < 16:
            raise ValueError(f"a sampling needs fps > 0 and width >= 16, got {self.fps} and {self.width}")


class Scorer(Protocol):
    """Scores one clip from the frames that it asked for; keys are columns of the clip table."""

    sampling: Sampling

    def __call__(
        self, frames: UInt8[np.ndarray, "t h w c"], timestamps: Float[np.ndarray, " t"]
    ) -> Mapping[str, Score]:
        """`frames` lie inside the clip, c is 1 when grey; there may be none."""
        ...


class FrameTrack:
    """The frames of one sampling over a whole source."""

    def __init__(self, sampling: Sampling, source: SourceInfo) -> None:
        width = min(sampling.width, source.width)
        self._sampling = sampling
        self._size = Size(height=max(1, round(source.height * width / source.width)), width=width)
        self._channels = 1 if sampling.grey else 3
        self._times: list[float] = []
        self._slot = -1
        self._store = SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (closed by `close`)

    def offer(self, picture: Picture) -> None:
        """Keep the picture if it is the first of its sampling interval."""
        slot = int(picture.pts_s * self._sampling.fps + 1e-6)
        if slot <= self._slot:
            return
        pixels = picture.small(self._size, grey=self._sampling.grey)
        try:
            self._store.write(pixels.tobytes())
        except OSError as error:  # the source is not to blame
            raise OutputError(
                f"cannot keep small frames in {gettempdir()}: {error.strerror}; free some space or set TMPDIR"
            ) from error
        self._times.append(picture.pts_s)
        self._slot = slot

    def between(
        self, start_s: float, end_s: float
    ) -> tuple[UInt8[np.ndarray, "t h w c"], Float[np.ndarray, " t"]]:
        """Frames with start <= time < end, and their times."""
        first, last = bisect_left(self._times, start_s), bisect_left(self._times, end_s)
        shape = (last - first, self._size.height, self._size.width, self._channels)
        frame_bytes = shape[1] * shape[2] * shape[3]
        self._store.seek(first * frame_bytes)
        content = self._store.read((last - first) * frame_bytes)
        return np.frombuffer(content, np.uint8).reshape(shape), np.asarray(self._times[first:last])

    def close(self) -> None:
        """Give memory and disk back."""
        self._store.close()
