"""Decoding and nothing else: what a reader's cost is measured against."""

from __future__ import annotations

from kinema.location import Located
from kinema.video.container import Limits, one_line_errors, open_container, video_stream


def decode_alone(path: Located, start_s: float, end_s: float) -> int:
    """How many frames come from the key frame at or before `start_s` up to the one at `end_s`, in one thread;
    none is converted or left out.
    """
    seen = 0
    with open_container(path, Limits()) as container, one_line_errors(path, "cannot be decoded"):
        stream = video_stream(container, path)
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        tick_s, start = float(stream.time_base or 1), stream.start_time or 0
        container.seek(start + round(start_s / tick_s), stream=stream)
        for frame in container.decode(stream):
            seen += 1
            if ((frame.pts or 0) - start) * tick_s >= end_s - 0.5 * tick_s:
                break
    return seen
