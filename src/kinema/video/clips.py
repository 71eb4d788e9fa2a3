"""Clips to files of their own: stream copies that begin at a key frame, and new encodings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path

import av
import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from kinema.errors import OutputError
from kinema.location import Located
from kinema.shapes import Size
from kinema.video.container import Limits, one_line_errors, open_container, video_stream
from kinema.video.reader import open_source, probe
from kinema.video.writer import Encoding, image_bytes, write_video

_IN_MP4 = {"av1", "h264", "hevc", "mpeg4", "vp9"}


@dataclass(frozen=True)
class Span:
    """What a stream copy holds, in seconds of its source, end exclusive."""

    start_s: float
    end_s: float
    frames: int


def copy_suffix(source: Located) -> str:
    """Of the container that a source's packets go into."""
    with open_container(source, Limits()) as container, one_line_errors(source, "cannot be copied"):
        codec = video_stream(container, source).codec_context.codec.canonical_name
        return ".mp4" if codec in _IN_MP4 else ".mkv"


def copy_span(source: Located, start_s: float, end_s: float | None, target: Path) -> Span | None:
    """The packets of the longest run of whole groups of pictures inside [start, end), without decoding.

    `end_s` None is the end of the source. None, and no file, when no group lies inside. Never a frame from
    outside: what leads the first key frame is left out, and the copy ends before the key frame at which it
    stops. `target` is not written atomically.
    """
    info = probe(source)
    with open_container(source, Limits()) as container, one_line_errors(source, "cannot be copied"):
        stream = video_stream(container, source)
        tick_s = float(stream.time_base or 0)
        first = round((start_s + info.start_s) / tick_s - 0.5)
        last = None if end_s is None else round((end_s + info.start_s) / tick_s + 0.5)
        container.seek(max(first, 0), stream=stream, backward=True)
        packets, stop = _groups(container.demux(stream), first, last)
        if not packets:
            return None
        begin = packets[0][0]
        end = stop if stop is not None else max(time + (packet.duration or 0) for time, packet in packets)
        _mux(stream, packets, target)
    return Span(begin * tick_s - info.start_s, end * tick_s - info.start_s, len(packets))


def _mux(stream: VideoStream, packets: list[tuple[int, Packet[VideoStream]]], target: Path) -> None:
    begin = packets[0][0]
    try:
        with av.open(f"file:{target}", "w") as output:
            copy = output.add_stream_from_template(stream)
            for time, packet in packets:
                packet.stream = copy
                packet.pts, packet.dts = time - begin, (packet.dts or 0) - begin
                output.mux(packet)
    except av.error.FFmpegError as error:
        if error.errno in {ENOSPC, EDQUOT, EFBIG}:
            raise OutputError(f"cannot write {target}: {error.strerror}; free some space") from error
        raise


def _groups(
    packets: Iterable[Packet[VideoStream]], first: int, last: int | None
) -> tuple[list[tuple[int, Packet[VideoStream]]], int | None]:
    """Packets and their times, from the first key frame on or after `first` to the last one on or before
    `last`, and the time of that one; what leads the first key frame in time is left out.
    """
    taken: list[tuple[int, Packet[VideoStream]]] = []
    keys: list[tuple[int, int]] = []
    for packet in packets:
        time = packet.pts
        if time is None or packet.dts is None:
            continue
        if packet.is_keyframe and time >= first:
            if last is not None and time > last:
                break
            keys.append((len(taken), time))
        if keys and time >= keys[0][1]:
            taken.append((time, packet))
    if last is None or not keys:
        return taken, None
    count, stop = keys[-1]
    return [item for item in taken[:count] if item[0] < stop], stop


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The frames of a new encoding: those on display at `times_s`, ascending, at `fps` and `size`."""

    times_s: Sequence[float]
    fps: float
    size: Size


def encode_span(source: Located, grid: Grid, target: Path, encoding: Encoding) -> None:
    """A new video of a source's frames."""
    with open_source(source, threads=1) as reader:
        pictures = (picture.rgb(grid.size) for picture in reader.pictures_at(grid.times_s))
        write_video(target, pictures, grid.fps, encoding)


def encode_still(source: Located, size: Size) -> bytes:
    """The first picture of a source as JPEG."""
    with open_source(source, threads=1) as reader:
        return image_bytes(next(reader.pictures()).rgb(size), ".jpg")
