"""Which videos are judged, and which of their frames: the same rule for every set that is compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from jaxtyping import UInt8
from torch.nn import functional

from kinema.dataset.store import kept_clips, source_file
from kinema.errors import DatasetError, DecodeError
from kinema.location import Located
from kinema.shapes import Size
from kinema.video.reader import probe, read_frames
from kinema.video.transforms import cover

SUFFIXES = frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".gif", ".m4v"})
PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp"})


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """`frames` at `fps` from a video's start; every frame is scaled to cover `height` x `width` (bilinear,
    antialiased) and its centre is cut out. The default is what SVD used for UCF-101."""

    frames: int = 16
    fps: float = 25.0
    height: int = 240
    width: int = 320

    def __post_init__(self) -> None:
        if self.frames < 1 or self.fps <= 0 or min(self.height, self.width) < 16:
            raise ValueError(f"frames >= 1, fps > 0 and sides >= 16 are needed, got {self}")

    @property
    def size(self) -> Size:
        return Size(height=self.height, width=self.width)


@dataclass(frozen=True, kw_only=True)
class Span:
    """A video, or the part of a source that a clip is; `name` pairs a video with its reference.

    `prompt` is the text that it was made from, or a clip's caption; "" where there is none.
    """

    path: Located
    name: str
    start_s: float = 0.0
    end_s: float | None = None
    prompt: str = ""


def find_spans(place: Path) -> list[Span]:
    """Videos below a folder (or the one file), or the kept clips of a dataset folder, in order of name.

    Pictures are taken only where there is no video.
    """
    if place.is_file():
        return [_of_file(place, place.stem)]
    if not place.is_dir():
        raise DatasetError(f"{place}: no such file or folder; give a video, a folder of videos or a dataset")
    spans = _of_dataset(place) if (place / "dataset.toml").is_file() else _of_folder(place)
    if not spans:
        raise DatasetError(f"{place}: no video to judge; give a folder that holds .mp4 files or kept clips")
    return spans


def _of_dataset(place: Path) -> list[Span]:
    clips = kept_clips(place)
    moving = [clip for clip in clips if clip.frames > 1]
    return [
        Span(
            path=source_file(place, clip),
            name=clip.clip_id,
            start_s=clip.start_s,
            end_s=clip.end_s,
            prompt=clip.captions[0].text if clip.captions else "",
        )
        for clip in moving or clips
    ]


def _of_folder(place: Path) -> list[Span]:
    found = sorted(path for path in place.rglob("*") if path.is_file())
    videos = [path for path in found if path.suffix.lower() in SUFFIXES]
    pictures = [path for path in found if path.suffix.lower() in PICTURES]
    return [_of_file(path, str(path.relative_to(place).with_suffix(""))) for path in videos or pictures]


def _of_file(path: Path, name: str) -> Span:
    return Span(path=path, name=name, prompt=str(sidecar(path).get("prompt") or "").strip())


def sample(span: Span, sampling: Sampling) -> UInt8[np.ndarray, "t h w 3"]:
    """The frames of `sampling`. Raises `DecodeError` when the span is shorter than they are."""
    times = span.start_s + np.arange(sampling.frames) / sampling.fps
    end_s = span.end_s if span.end_s is not None else _end(span.path)
    wanted_s = (sampling.frames - 1) / sampling.fps
    if end_s - span.start_s < wanted_s:
        raise DecodeError(
            f"{span.path}: {end_s - span.start_s:.2f} s are shorter than {sampling.frames} frames at "
            f"{sampling.fps:g} fps; judge with fewer frames"
        )
    return cover_crop(read_frames(span.path, [float(time) for time in times]), sampling.size)


def sidecar(video: Located) -> dict[str, Any]:
    """What `<video>.json` beside a video states; empty without one, as for a clip inside a shard."""
    if not isinstance(video, Path):
        return {}
    path = video.with_name(video.name + ".json")
    if not path.is_file():
        return {}
    try:
        stated = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DatasetError(f"{path}: not JSON ({error}); correct or delete it") from error
    return stated if isinstance(stated, dict) else {}


def digest(spans: list[Span]) -> str:
    """Names a set of videos by their names, sizes and spans, wherever it lies."""
    sizes = [span.path.stat().st_size if span.path.exists() else 0 for span in spans]
    rows = [
        f"{span.name}:{size}:{span.start_s}:{span.end_s}" for span, size in zip(spans, sizes, strict=True)
    ]
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]


def _end(path: Located) -> float:
    found = probe(path)
    if found.is_image:
        return 0.0
    return found.duration_s or (found.frames / found.fps if found.fps else 0.0) or float("inf")


def native(span: Span, most: int, widest: int | None = None) -> tuple[UInt8[np.ndarray, "t h w 3"], float]:
    """Up to `most` consecutive frames at the span's own rate, and that rate; at most `widest` pixels wide."""
    found = probe(span.path)
    fps = found.fps or 1.0
    end_s = span.end_s if span.end_s is not None else _end(span.path)
    count = (
        1 if found.is_image else max(1, round((end_s - span.start_s) * fps)) if np.isfinite(end_s) else most
    )
    times = span.start_s + np.arange(min(count, most)) / fps
    size = None
    if widest is not None and found.width > widest:
        size = Size(height=max(8, round(found.height * widest / found.width)), width=widest)
    return read_frames(span.path, [float(time) for time in times], size=size), fps


def cover_crop(frames: UInt8[np.ndarray, "t h w 3"], size: Size) -> UInt8[np.ndarray, "t h2 w2 3"]:
    """Scale to cover with an antialiased bilinear filter, then crop the centre."""
    covering = cover(frames.shape[1], frames.shape[2], size)
    pixels = rearrange(torch.from_numpy(np.ascontiguousarray(frames)), "t h w c -> t c h w").float()
    if tuple(pixels.shape[-2:]) != (covering.height, covering.width):
        target = [covering.height, covering.width]
        pixels = functional.interpolate(pixels, size=target, mode="bilinear", antialias=True)
    top, left = (covering.height - size.height) // 2, (covering.width - size.width) // 2
    cut = pixels[..., top : top + size.height, left : left + size.width]
    done = rearrange(cut.round().clamp(0, 255).to(torch.uint8), "t c h w -> t h w c")
    return np.ascontiguousarray(done.numpy())
