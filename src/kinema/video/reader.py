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
_READ_ON_S = 3.0  # a wanted frame that lies within this is decoded up to, a later one is sought
_JUMP_IN_S = 0.25  # the first wanted frame is sought sooner: on the way to it, frames can be left out
_HORIZON_S = 10.0
_MOST_PACKETS = 2000
_UNSEEKABLE = {"gif", "apng"}  # a frame is drawn over the earlier ones


class Reader:
    """One open source; make it with `open_source`. Its pictures can be gone through once."""

    def __init__(self, path: Located, container: InputContainer, limits: Limits, threads: int) -> None:
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
        self._first = self._first_raw()
        self._origin_s = self._raw_time(self._first) or 0.0
        self._geometry = self._upright_geometry()
        self.info = self._facts()

    def pictures(self) -> Iterator[Picture]:
        """Every frame in order of time, from the first."""
        raw: VideoFrame | None = self._first
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
        shown, cursor = None, _Cursor(self, times_s)
        for time_s in times_s:
            shown = cursor.at(time_s)
            yield shown

    @property
    def tolerance_s(self) -> float:
        """Half a tick of the container's clock: a time this near a frame means that frame."""
        return 0.5 * self._tick_s + 1e-6

    @property
    def seekable(self) -> bool:
        """Whether decoding can begin anywhere but at the start."""
        return self._tick_s > 0 and not self._still and self._container.format.name not in _UNSEEKABLE

    def restart(self, time_s: float, wanted_s: Sequence[float]) -> Iterator[Picture]:
        """Pictures from the key frame at or before `time_s` on; may begin later, which the caller checks.

        Until the last of `wanted_s`, pictures that are on display at none of these times, and that no other
        picture leans on, are left out.
        """
        with one_line_errors(self.path, f"seeking to {time_s:.3f} s"):
            target = round((max(time_s, 0.0) + self._origin_s) / self._tick_s)
            self._container.seek(target, stream=self._stream, backward=True)
        self._begin()
        self._raw = self._decode_towards(wanted_s)
        return self._from_key_frame()

    def hurry(self, time_s: float, wanted_s: Sequence[float]) -> bool:
        """Go on to `time_s`, leaving out pictures as `restart` does, if a seek would go back."""
        target = round((max(time_s, 0.0) + self._origin_s) / self._tick_s)
        entries = self._stream.index_entries
        key = entries.search_timestamp(target) if len(entries) else -1
        if key < 0 or entries[key].timestamp > self._fed_ticks:
            return False
        self._raw = self._decode_towards(wanted_s)
        return True

    def _decode_towards(self, wanted_s: Sequence[float]) -> Iterator[VideoFrame]:
        """Packets are read ahead, undecoded, until it is known what is on display at the wanted times."""
        ticks = [(time_s + self._origin_s) / self._tick_s for time_s in wanted_s]
        with one_line_errors(self.path, f"damaged: reading on to {wanted_s[-1]:.2f} s"):
            self._read_ahead(ticks[-1])
        known = sorted(packet.pts for packet in self._ahead if packet.pts is not None)
        places = [bisect_right(known, tick) - 1 for tick in ticks]
        needed = {known[place] for place in places if place >= 0}
        last = max(needed, default=0) if len(self._ahead) < _MOST_PACKETS else -math.inf

        def spare(packet: Packet[Any]) -> bool:
            return packet.pts is not None and packet.pts < last and packet.pts not in needed

        return self._decode(spare)

    def _begin(self) -> None:
        """Where the container stands now. What was read ahead or decoded stays when `_raw` is replaced."""
        self._packets: Iterator[Packet[Any]] = self._container.demux(self._stream)
        self._ahead: deque[Packet[Any]] = deque()
        self._decoded: deque[VideoFrame] = deque()
        self._fed_ticks = -math.inf

    def _read_ahead(self, tick: float) -> None:
        """Until a packet comes that is decoded after `tick`, or there are many."""
        reached = any(packet.dts is not None and packet.dts > tick for packet in self._ahead)
        while not reached and len(self._ahead) < _MOST_PACKETS:
            packet = next(self._packets, None)
            if packet is None:
                return
            self._ahead.append(packet)
            reached = packet.dts is not None and packet.dts > tick

    def _from_key_frame(self) -> Iterator[Picture]:
        key_s: float | None = None
        count = 0
        while (raw := self._next_raw(count, key_s or 0.0)) is not None:
            picture = self._picture(raw, count, -1.0)
            key_s = picture.pts_s if key_s is None and raw.key_frame else key_s
            count += 1
            self._spend(count)
            if key_s is not None and picture.pts_s >= key_s:  # earlier ones lean on frames before the key
                yield picture

    def _decode(self, spare: Callable[[Packet[Any]], bool] = lambda _: False) -> Iterator[VideoFrame]:
        """Frames from here on; a spare packet may give none."""
        while True:
            while self._decoded:
                yield self._decoded.popleft()
            packet = self._ahead.popleft() if self._ahead else next(self._packets, None)
            if packet is None:
                return
            self._stream.codec_context.skip_frame = "NONREF" if spare(packet) else "DEFAULT"
            self._fed_ticks = self._fed_ticks if packet.dts is None else packet.dts
            self._decoded.extend(packet.decode())

    def _first_raw(self) -> VideoFrame:
        with one_line_errors(self.path, "no frame can be decoded"):
            for raw in self._raw:
                return raw
        raise DecodeError(f"{self.path}: no frame can be decoded")

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

    def _upright_geometry(self) -> Geometry:
        mirror, turns = False, round(self._first.rotation / 90) % 4
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if self._still:
            with open_bytes(self.path) as file:
                orientation = exif_orientation(file.read(_EXIF_BYTES))
            mirror, turns = upright(orientation) if orientation > 1 else (mirror, turns)
            aspect = None  # the density that a photo states is for print
        stored = Size(height=self._first.height, width=self._first.width)
        return Geometry.of(stored, float(aspect) if aspect else 1.0, mirror, turns)

    def _facts(self) -> SourceInfo:
        stream = self._stream
        duration = (stream.duration or 0) * self._tick_s
        if not duration and self._container.duration:
            duration = self._container.duration / 1e6
        return SourceInfo(
            path=self.path,
            width=self._geometry.displayed.width,
            height=self._geometry.displayed.height,
            fps=0.0 if self._still else self._fps,
            frames=1 if self._still else stream.frames,
            duration_s=0.0 if self._still else duration,
            codec=stream.codec_context.codec.name,
            rotation=90 * self._geometry.turns,
            is_image=self._still,
            start_s=self._origin_s,
        )


class _Cursor:
    """Goes forward through a reader: reads on to a near time, seeks to a far one."""

    def __init__(self, reader: Reader, times_s: Sequence[float]) -> None:
        self._reader = reader
        self._times_s = times_s
        self._pictures = reader.pictures()
        self._shown = next(self._pictures)
        self._ahead: Picture | None = None
        self._ended = False
        self._fresh = True

    def at(self, time_s: float) -> Picture:
        limit_s = time_s + self._reader.tolerance_s
        read_on_s = _JUMP_IN_S if self._fresh else _READ_ON_S
        self._fresh = False
        if self._reader.seekable and time_s > self._position_s() + read_on_s:
            wanted = self._wanted(limit_s)
            if not self._reader.hurry(limit_s, wanted):
                self._seek(limit_s, wanted)
        while not self._settled(time_s, limit_s):
            self._step(limit_s)
        return self._shown

    def _position_s(self) -> float:
        return (self._ahead or self._shown).pts_s

    def _settled(self, time_s: float, limit_s: float) -> bool:
        exact = abs(self._shown.pts_s - time_s) <= self._reader.tolerance_s
        return exact or self._ended or (self._ahead is not None and self._ahead.pts_s > limit_s)

    def _step(self, limit_s: float) -> None:
        if self._ahead is not None and self._ahead.pts_s <= limit_s:
            self._shown, self._ahead = self._ahead, None
            return
        following = next(self._pictures, None)
        if following is None:
            self._ended = True
        elif following.pts_s <= limit_s:
            self._shown = following
        else:
            self._ahead = following

    def _wanted(self, limit_s: float) -> list[float]:
        """The time, and those that follow soon."""
        tolerance_s = self._reader.tolerance_s
        later = [t + tolerance_s for t in self._times_s if limit_s < t + tolerance_s < limit_s + _HORIZON_S]
        return [limit_s, *later]

    def _seek(self, limit_s: float, wanted: Sequence[float]) -> None:
        """Begin at a key frame that is not after the time; step back further until one is."""
        back_s = 0.0
        while True:
            target_s = limit_s - back_s
            pictures = self._reader.restart(target_s, wanted)
            first = next(pictures, None)
            if first is not None and first.pts_s <= limit_s:
                self._pictures, self._shown, self._ahead, self._ended = pictures, first, None, False
                return
            if target_s <= 0:
                raise DecodeError(f"{self._reader.path}: cannot seek to {limit_s:.3f} s")
            back_s = 2 * back_s + 1.0


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
            reader = Reader(path, container, limits, threads)
        yield reader


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
