"""Sources to frames: one sequential pass, or exactly the frames that are asked for.

Timestamps are always those of the container, in seconds from the first frame that decodes; pixels are
upright and as displayed (rotation, mirroring and pixel aspect applied), RGB, 8 bit.
"""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from av import Packet, VideoFrame
from av.container import InputContainer
from jaxtyping import UInt8

from kinema.errors import DecodeError
from kinema.location import Located, open_bytes
from kinema.shapes import Size
from kinema.video.container import Limits, is_still, one_line_errors, open_container, video_stream
from kinema.video.cursor import Cursor, Wanted
from kinema.video.openings import Opening, openings
from kinema.video.orientation import exif_orientation, upright
from kinema.video.pictures import Frame, Picture, SourceInfo, decode_count
from kinema.video.pixels import Geometry

__all__ = [
    "Frame",
    "Picture",
    "Reader",
    "SourceInfo",
    "decode",
    "decode_count",
    "open_source",
    "probe",
    "read_frames",
]

_EXIF_BYTES = 1 << 18
_MOST_PACKETS = 2000
_MOST_REORDERED = 16  # frames that are decoded before one that is shown before them: H.264, HEVC
_FRAMED = {"mp4", "matroska"}
_UNSEEKABLE = {"gif", "apng"}  # a frame is drawn over the earlier ones


class Reader:
    """One open source; make it with `open_source`. Its pictures can be gone through once."""

    _packets: Iterator[Packet[Any]]

    def __init__(
        self,
        path: Located,
        container: InputContainer,
        limits: Limits,
        threads: int,
        known: Opening | None = None,
    ) -> None:
        self.path = path
        self._container = container
        self._limits = limits
        self._seconds = limits.seconds(path.stat().st_size)
        self._deadline = time.monotonic() + self._seconds
        self._stream = video_stream(container, path)
        self._check_size()
        self._stream.thread_type = "NONE" if threads == 1 else "AUTO"
        self._stream.codec_context.thread_count = threads
        self._tick_s = float(self._stream.time_base or 0)
        self._still = is_still(container, path)
        self._fps = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self._begin()
        self._raw = self._decode()
        self._first: VideoFrame | None = None
        self.opening = known or self._opened(self._first_raw())
        self._origin_s, self._geometry = self.opening.origin_s, self.opening.geometry
        self.info = self.opening.info

    def release(self) -> None:
        """Let go of decoder and frames. Its generators point back at it, so that otherwise tens of megabytes
        would wait for the garbage collector."""
        self._raw, self._packets, self._first = iter(()), iter(()), None
        self._ahead.clear()
        self._decoded.clear()

    def pictures(self) -> Iterator[Picture]:
        """Every frame in order of time, from the first."""
        raw: VideoFrame | None = self._first_raw()
        index, last_s = 0, -1.0
        while raw is not None:
            picture = self._picture(raw, index, last_s)
            if picture.pts_s > last_s:
                self._spend(index)
                yield picture
                index, last_s = index + 1, picture.pts_s
            raw = self._next_raw(index, last_s)
        self._check_complete(index)

    def pictures_at(self, times_s: Sequence[float]) -> Iterator[Picture]:
        """The picture on display at each time; `times_s` ascending. Past the end it is the last picture."""
        shown, cursor = None, Cursor(self, times_s)
        for time_s in times_s:
            shown = cursor.at(time_s)
            yield shown

    @property
    def tolerance_s(self) -> float:
        """Half a tick of the container's clock: a time this near a frame means that frame."""
        return 0.5 * self._tick_s + 1e-6

    @property
    def _whole_frames(self) -> bool:
        """Whether a packet is a frame; elsewhere it may be a field, and the next one the other half."""
        return bool(_FRAMED & set(self._container.format.name.split(",")))

    @property
    def seekable(self) -> bool:
        """Whether decoding can begin anywhere but at the start."""
        return self._tick_s > 0 and not self._still and self._container.format.name not in _UNSEEKABLE

    def restart(self, time_s: float, wanted: Wanted) -> Iterator[Picture]:
        """Pictures from the key frame at or before `time_s` on; may begin later, which the caller checks.

        Until the last wanted time, pictures that are on display at none of these times, and that no other
        picture leans on, are left out, and so may be all that come after it when nothing else is wanted.
        """
        with one_line_errors(self.path, f"seeking to {time_s:.3f} s"):
            target = round((max(time_s, 0.0) + self._origin_s) / self._tick_s)
            self._container.seek(target, stream=self._stream, backward=True)
        self._begin()
        self._raw = self._decode_towards(wanted)
        return self._from_key_frame()

    def hurry(self, time_s: float, wanted: Wanted) -> bool:
        """Go on to `time_s`, leaving out pictures as `restart` does, if a seek would go back."""
        if self._drained:  # all that was wanted then is decoded, and nothing else is wanted now
            return True
        target = round((max(time_s, 0.0) + self._origin_s) / self._tick_s)
        entries = self._stream.index_entries
        key = entries.search_timestamp(target) if len(entries) else -1
        if key < 0 or entries[key].timestamp > self._fed_ticks:
            return False
        self._raw = self._decode_towards(wanted)
        return True

    def _decode_towards(self, wanted: Wanted) -> Iterator[VideoFrame]:
        """Packets are read ahead, undecoded, until it is known what is on display at the wanted times."""
        ticks = [(time_s + self._origin_s) / self._tick_s for time_s in wanted.times_s]
        with one_line_errors(self.path, f"damaged: reading on to {wanted.times_s[-1]:.2f} s"):
            self._read_ahead(ticks[-1])
        if len(self._ahead) >= _MOST_PACKETS or not self._whole_frames:
            return self._decode()
        known = sorted(packet.pts for packet in self._ahead if packet.pts is not None)
        places = [bisect_right(known, tick) - 1 for tick in ticks]
        needed = {known[place] for place in places if place >= 0}
        last = max(needed, default=0)

        def spare(packet: Packet[Any]) -> bool:
            return packet.pts is not None and packet.pts < last and packet.pts not in needed

        ends = wanted.last and places[-1] >= 0 and len(known) == len(self._ahead)
        fed_last = [packet.pts for packet in self._ahead if packet.pts in needed][-1:] if ends else []
        return self._decode(spare, *fed_last)

    def _begin(self) -> None:
        """Where the container stands now. What was read ahead or decoded stays when `_raw` is replaced."""
        self._packets = self._container.demux(self._stream)
        self._ahead: deque[Packet[Any]] = deque()
        self._decoded: deque[VideoFrame] = deque()
        self._fed_ticks = -math.inf
        self._drained = False
        self._hidden_key = False  # was fed: it lies before the start that an edit list sets

    def _read_ahead(self, tick: float) -> None:
        """Until no packet that is shown at `tick` or before can follow, or there are many.

        Decoding times would tell sooner, but after a seek in Matroska they are guesses.
        """
        later = sum(packet.pts is not None and packet.pts > tick for packet in self._ahead)
        while later <= _MOST_REORDERED and len(self._ahead) < _MOST_PACKETS:
            packet = next(self._packets, None)
            if packet is None:
                return
            self._ahead.append(packet)
            later += packet.pts is not None and packet.pts > tick

    def _from_key_frame(self) -> Iterator[Picture]:
        key_s: float | None = None
        count = 0
        while (raw := self._next_raw(count, key_s or 0.0)) is not None:
            picture = self._picture(raw, count, -1.0)
            if key_s is None and (raw.key_frame or self._hidden_key):
                key_s = -math.inf if self._hidden_key else picture.pts_s
            count += 1
            self._spend(count)
            if key_s is not None and picture.pts_s >= key_s:  # earlier ones lean on frames before the key
                yield picture

    def _decode(
        self, spare: Callable[[Packet[Any]], bool] = lambda _: False, last: int | None = None
    ) -> Iterator[VideoFrame]:
        """Frames from here on; a spare packet may give none. After the packet of time `last`, if it is told,
        nothing more is read: what the decoder holds back by then is taken from it.
        """
        while not self._drained:
            while self._decoded:
                yield self._decoded.popleft()
            packet = self._ahead.popleft() if self._ahead else next(self._packets, None)
            if packet is None:
                return
            self._stream.codec_context.skip_frame = "NONREF" if spare(packet) else "DEFAULT"
            self._fed_ticks = self._fed_ticks if packet.dts is None else packet.dts
            self._hidden_key |= packet.is_keyframe and packet.is_discard
            self._decoded.extend(packet.decode())
            if packet.pts is not None and packet.pts == last:
                self._decoded.extend(self._stream.codec_context.decode(None))
                self._drained = True
        while self._decoded:
            yield self._decoded.popleft()

    def _first_raw(self) -> VideoFrame:
        """Of a source where nothing else was read."""
        if self._first is None:
            with one_line_errors(self.path, "no frame can be decoded"):
                self._first = next(self._raw, None)
        if self._first is None:
            raise DecodeError(f"{self.path}: no frame can be decoded")
        return self._first

    def _next_raw(self, frames: int, time_s: float) -> VideoFrame | None:
        with one_line_errors(self.path, f"damaged: decoding stopped after {frames} frames at {time_s:.2f} s"):
            return next(self._raw, None)

    def _raw_time(self, raw: VideoFrame) -> float | None:
        ticks = raw.pts if raw.pts is not None else raw.dts
        return None if ticks is None else ticks * self._tick_s

    def _picture(self, raw: VideoFrame, index: int, last_s: float) -> Picture:
        step_s = 1 / self._fps if self._fps else 0.04
        time_s = self._raw_time(raw)
        pts_s = max(last_s, 0.0) + step_s * (index > 0) if time_s is None else time_s - self._origin_s
        duration_s = raw.duration * self._tick_s
        return Picture(raw, pts_s, duration_s or step_s, index, self._geometry)

    def _spend(self, frames: int) -> None:
        if frames >= self._limits.max_frames:
            raise DecodeError(f"{self.path}: more than {self._limits.max_frames} frames (max_frames)")
        if time.monotonic() > self._deadline:
            raise DecodeError(
                f"{self.path}: decoding took more than {self._seconds:g} s (see limits.max_seconds)"
            )

    def _check_complete(self, frames: int) -> None:
        """A demuxer may end quietly where the file was cut off; its index knows better."""
        index = self._stream.index_entries
        end = max((entry.pos + entry.size for entry in index[-2:]), default=0) if len(index) else 0
        if end > self.path.stat().st_size:
            raise DecodeError(
                f"{self.path}: damaged: decoding stopped after {frames} frames: the file is cut off "
                f"({self.path.stat().st_size} of at least {end} bytes)"
            )

    def _check_size(self) -> None:
        width, height = self._stream.width, self._stream.height
        if width * height > self._limits.max_pixels:
            raise DecodeError(
                f"{self.path}: {width}x{height} pixels are more than {self._limits.max_pixels} (max_pixels)"
            )

    def _opened(self, first: VideoFrame) -> Opening:
        geometry = self._upright_geometry(first)
        origin_s = self._raw_time(first) or 0.0
        return Opening(origin_s, geometry, self._facts(geometry, origin_s))

    def _upright_geometry(self, first: VideoFrame) -> Geometry:
        mirror, turns = False, round(first.rotation / 90) % 4
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if self._still:
            with open_bytes(self.path) as file:
                orientation = exif_orientation(file.read(_EXIF_BYTES))
            mirror, turns = upright(orientation) if orientation > 1 else (mirror, turns)
            aspect = None  # the density that a photo states is for print
        stored = Size(height=first.height, width=first.width)
        return Geometry.of(stored, float(aspect) if aspect else 1.0, mirror, turns)

    def _facts(self, geometry: Geometry, origin_s: float) -> SourceInfo:
        stream = self._stream
        duration = (stream.duration or 0) * self._tick_s
        if not duration and self._container.duration:
            duration = self._container.duration / 1e6
        return SourceInfo(
            path=self.path,
            width=geometry.displayed.width,
            height=geometry.displayed.height,
            fps=0.0 if self._still else self._fps,
            frames=1 if self._still else stream.frames,
            duration_s=0.0 if self._still else duration,
            codec=stream.codec_context.codec.name,
            rotation=90 * geometry.turns,
            is_image=self._still,
            start_s=origin_s,
        )


@contextmanager
def open_source(
    path: Located, *, limits: Limits | None = None, threads: int = 0, quick: bool = False
) -> Iterator[Reader]:
    """A `Reader` on a video or image; `threads` 0 lets the decoder choose, `quick` opens in a tenth of the
    time and may know less of the source. Raises `DecodeError`.
    """
    limits = limits or Limits()
    decode_count.opened += 1
    with open_container(path, limits, quick=quick) as container:
        with one_line_errors(path, "cannot be decoded"):
            reader = Reader(path, container, limits, threads, openings.of(path) if quick else None)
            if quick:
                openings.keep(path, reader.opening)
        try:
            yield reader
        finally:
            reader.release()


def probe(path: Located, *, limits: Limits | None = None) -> SourceInfo:
    """Container facts; decodes one frame, because rotation and the first timestamp are only there."""
    with open_source(path, limits=limits, threads=1) as reader:
        return reader.info


def decode(
    path: Located,
    *,
    size: Size | None = None,
    limits: Limits | None = None,
    threads: int = 0,
    interpolation: str = "AREA",
) -> Iterator[Frame]:
    """All frames of a source in one pass, scaled to `size` while they are converted."""
    with open_source(path, limits=limits, threads=threads) as reader:
        for picture in reader.pictures():
            pixels = picture.rgb(size, interpolation)
            yield Frame(pts_s=picture.pts_s, index=picture.index, pixels=pixels)


def read_frames(
    path: Located,
    times_s: Sequence[float],
    *,
    size: Size | None = None,
    limits: Limits | None = None,
    threads: int = 1,
) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames on display at `times_s`, in that order, the same as a sequential pass gives.

    Seeks to the key frame before and decodes only what is needed. A time after the last frame gives the
    last frame.
    """
    times = [float(value) for value in times_s]
    if not times or not all(value >= 0 for value in times):
        raise ValueError(f"times_s must hold at least one time, none negative, got {times_s}")
    order = sorted(set(times))
    with open_source(path, limits=limits, threads=threads, quick=True) as reader:
        by_time: dict[float, UInt8[np.ndarray, "h w 3"]] = {}
        shown, pixels = None, None
        for time_s, picture in zip(order, reader.pictures_at(order), strict=True):
            if pixels is None or picture is not shown:
                shown, pixels = picture, picture.rgb(size)
            by_time[time_s] = pixels
    return np.stack([by_time[time_s] for time_s in times])
