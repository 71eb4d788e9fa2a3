"""The frames that captioners look at: kept by curation where there are enough, else a second decode."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kinema.curate.captioner import Pictures
from kinema.errors import DecodeError
from kinema.location import located
from kinema.manifest import Clip
from kinema.shapes import Size
from kinema.video.reader import open_source


@dataclass(frozen=True)
class ClipFrames:
    """Frames of a clip, spread over it, first to last; `fault` says why there are none."""

    clip: Clip
    pictures: Pictures | None
    fault: str = ""

    def middle(self) -> Pictures:
        """Only the one in the middle."""
        assert self.pictures is not None
        place = len(self.pictures) // 2
        return self.pictures[place : place + 1]


class FrameSource:
    """`count` frames a clip, their longer side at most `width`; an odd count has the middle frame in it.

    `decoded` names the sources that had to be decoded a second time.
    """

    def __init__(self, folder: Path, count: int, width: int) -> None:
        self.decoded: list[str] = []
        self._folder, self._count, self._width = folder, count, width

    def frames(self, clips: Sequence[Clip]) -> Iterator[ClipFrames]:
        """All clips, source by source; a source is opened at most once."""
        by_source: dict[str, list[Clip]] = {}
        for clip in clips:
            kept = self._kept(clip)
            if kept is None:
                by_source.setdefault(clip.source_path, []).append(clip)
            else:
                yield ClipFrames(clip, kept)
        for path, waiting in by_source.items():
            yield from self._second_decode(located(path), waiting)

    def _kept(self, clip: Clip) -> Pictures | None:
        """What lies in the folder, if it is as many and as large as is asked."""
        count = 1 if clip.frames == 1 else self._count
        names = (
            [f"{clip.clip_id}-{place}of{count}" for place in range(count)] if count > 1 else [clip.clip_id]
        )
        paths = [self._folder / "thumbnails" / f"{name}.jpg" for name in names]
        if not all(path.is_file() for path in paths):
            return None
        read = [picture for path in paths if (picture := cv2.imread(str(path))) is not None]
        if len(read) < count or any(max(picture.shape) < self._least(clip) for picture in read):
            return None
        return np.stack([self._shrunk(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)) for picture in read])

    def _least(self, clip: Clip) -> int:
        return min(self._width, max(clip.width, clip.height))

    def _shrunk(self, picture: np.ndarray) -> np.ndarray:
        size = _within(picture.shape[0], picture.shape[1], self._width)
        return cv2.resize(picture, (size.width, size.height), interpolation=cv2.INTER_AREA)

    def _second_decode(self, path: Path, clips: list[Clip]) -> Iterator[ClipFrames]:
        clips = sorted(clips, key=lambda clip: clip.start_s)
        times = [_times(clip, 1 if clip.frames == 1 else self._count) for clip in clips]
        done = 0
        self.decoded.append(str(path))
        try:
            with open_source(path) as reader:
                size = _within(reader.info.height, reader.info.width, self._width)
                pictures = reader.pictures_at([time_s for row in times for time_s in row])
                for clip, row in zip(clips, times, strict=True):
                    yield ClipFrames(clip, np.stack([next(pictures).rgb(size) for _ in row]))
                    done += 1
        except (DecodeError, OSError) as error:
            fault = " ".join(str(error).split())
            yield from (ClipFrames(clip, None, fault) for clip in clips[done:])


def _times(clip: Clip, count: int) -> list[float]:
    """Middles of `count` equal parts of the clip."""
    return [clip.start_s + (clip.end_s - clip.start_s) * (place + 0.5) / count for place in range(count)]


def _within(height: int, width: int, longest: int) -> Size:
    scale = min(1.0, longest / max(height, width))
    return Size(height=max(1, round(height * scale)), width=max(1, round(width * scale)))
