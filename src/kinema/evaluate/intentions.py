"""Whether a video is what was asked for: its text, first frame and camera, as its sidecar states them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinema.encoders.clip import Clip
from kinema.errors import DecodeError
from kinema.evaluate.sampling import Span, cover_crop, native, sidecar
from kinema.evaluate.temporal_metrics import FLOW_WIDTH, camera_motion, first_frame_fidelity, small
from kinema.shapes import Size
from kinema.video.reader import read_frames

CLIP_FRAMES = 8


def clip_name(source: str) -> str:
    """Which CLIP it is: the hash of a folder's weights, or the hub name; "" for none."""
    folder = Path(source)
    if not source or not folder.is_dir():
        return source
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return f"sha256 {digest.hexdigest()[:16]}"


def clip_metrics(span: Span, clip: Clip, duration_s: float) -> dict[str, float]:
    """`text_match`, the mean cosine of frames spread over `duration_s` and the prompt (where there is one);
    `subject_drift`, 1 less the mean cosine of the later frames and the first one."""
    times = span.start_s + np.linspace(0, duration_s, CLIP_FRAMES, endpoint=False)
    images = clip.images(read_frames(span.path, [float(time) for time in times]))
    found = {"subject_drift": 1.0 - float((images[1:] @ images[0]).mean())}
    if span.prompt:
        found["text_match"] = float((images @ clip.texts([span.prompt])[0]).mean())
    return found


def stated_metrics(span: Span, most: int) -> dict[str, float]:
    """`camera_motion_obeyed` (0 or 1) and `first_frame_fidelity` (dB), where the sidecar asks for them.

    Raises `DecodeError` when the picture that the video was made from has gone or changed.
    """
    stated = sidecar(span.path)
    found = {}
    if wanted := stated.get("camera_motion"):
        frames, _ = native(span, most, FLOW_WIDTH)
        found["camera_motion_obeyed"] = float(camera_motion(small(frames)) == wanted)
    if (image := _first_image(span, stated)) is not None:
        frames, _ = native(span, 1)
        picture = cover_crop(read_frames(image, [0.0]), Size(height=frames.shape[1], width=frames.shape[2]))
        found["first_frame_fidelity"] = first_frame_fidelity(frames, picture[0])
    return found


def _first_image(span: Span, stated: Mapping[str, Any]) -> Path | None:
    """The picture of kinema animate, as `{"path", "sha256"}` or a plain path, also beside the video."""
    told = stated.get("image")
    if not told:
        return None
    record = told if isinstance(told, dict) else {"path": told}
    named = Path(str(record.get("path", "")))
    assert isinstance(span.path, Path)
    places = [named, span.path.parent / named, span.path.parent / named.name]
    image = next((place for place in places if place.is_file()), None)
    if image is None:
        raise DecodeError(f"{span.path}: its first frame, {named}, is not there; put it beside the video")
    wanted = record.get("sha256")
    if wanted and hashlib.sha256(image.read_bytes()).hexdigest() != wanted:
        raise DecodeError(f"{span.path}: its first frame, {image}, has changed since; put the old one back")
    return image
