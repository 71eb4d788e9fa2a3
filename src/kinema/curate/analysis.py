"""One source, one decode: cuts, scores and thumbnails. A function of the path, so any engine can run it."""

from __future__ import annotations

import hashlib
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curate.camera import CameraConfig, CameraScorer
from kinema.curate.cuts import CutConfig, CutDetector
from kinema.curate.duplicates import DuplicateConfig, HashScorer
from kinema.curate.motion import MotionConfig, MotionScorer
from kinema.curate.overlay_text import TextConfig, TextScorer
from kinema.curate.quality import QualityConfig, QualityScorer
from kinema.curate.sampling import FrameTrack, Sampling, Scorer
from kinema.curate.spans import Span, SpanConfig, shots, split
from kinema.errors import DecodeError
from kinema.location import identity, is_url, located, open_bytes
from kinema.manifest import Clip, Source, clip_id
from kinema.video.container import Limits
from kinema.video.reader import SourceInfo, decode_count, open_source
from kinema.video.small_frames import small_rgb
from kinema.video.writer import image_bytes

_PIECE_BYTES = 1 << 20
_THUMBNAIL = Sampling(fps=2.0, width=256)


@dataclass(frozen=True, kw_only=True)
class KeepConfig:
    """Pictures to keep of each clip besides its thumbnail, so that captioners need no second decode: `frames`
    of them, `width` pixels wide, from among `fps` a second."""

    frames: int = 0
    width: int = 512
    fps: float = 4.0

    def __post_init__(self) -> None:
        if self.frames < 0 or self.frames == 1:
            raise ValueError(f"frames must be 0 or at least 2 (the thumbnail is one), got {self.frames}")

    @property
    def sampling(self) -> Sampling:
        """Which frames wait for the cuts to be known."""
        return Sampling(fps=self.fps, width=self.width)


@dataclass(frozen=True, kw_only=True)
class AnalysisConfig:
    """Everything that needs the pixels; a change here decodes again, other settings do not."""

    cuts: CutConfig = field(default_factory=CutConfig)
    spans: SpanConfig = field(default_factory=SpanConfig)
    motion: MotionConfig = field(default_factory=MotionConfig)
    camera: CameraConfig = field(default_factory=CameraConfig)
    quality: QualityConfig = field(default_factory=QualityConfig)
    duplicates: DuplicateConfig = field(default_factory=DuplicateConfig)
    text: TextConfig = field(default_factory=TextConfig)
    limits: Limits = field(default_factory=Limits)
    keep: KeepConfig = field(default_factory=KeepConfig)


@dataclass(frozen=True)
class Analysis:
    """A source's row, its clips before filters and captions, and a JPEG per clip id."""

    source: Source
    clips: list[Clip]
    thumbnails: dict[str, bytes]
    decodes: int = 0


def source_id(path: Path) -> str:
    """Stable name of a source's rows: the same path has the same id in every run."""
    return hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def analyse(path: Path, config: AnalysisConfig, threads: int) -> Analysis:
    """Decode `path` once; a source that cannot be read gives a failed row with the reason."""
    before = decode_count.opened
    row = Source(source_id=source_id(path), path=str(path))
    try:
        row = replace(row, bytes=path.stat().st_size, sha256=file_sha256(path))
        clips, row, thumbnails = _decoded(row, config, threads)
    except (DecodeError, OSError, MemoryError, cv2.error) as error:
        by_chance = isinstance(error, OSError | MemoryError)
        failed = replace(row, status="unreadable" if by_chance else "failed", reason=_reason(path, error))
        return Analysis(failed, [], {}, decode_count.opened - before)
    return Analysis(row, clips, thumbnails, decode_count.opened - before)


def _reason(path: Path, error: Exception) -> str:
    """What went wrong, in words; a store's library calls all that it cannot get "not found"."""
    match error:
        case FileNotFoundError():
            return "no such file, or its server does not answer" if is_url(path) else "no such file"
        case IsADirectoryError():
            return "is a folder; a list names files"
        case _:
            return " ".join(str(error).removeprefix(f"{path}: ").split()) or type(error).__name__


def file_sha256(path: Path) -> str:
    """Of the content, read in pieces; of length and ETag for an object whose store tells them."""
    if known := identity(path):
        return hashlib.sha256(known.encode()).hexdigest()
    digest = hashlib.sha256()
    with open_bytes(path) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def scorers(config: AnalysisConfig) -> list[Scorer]:
    """All scorers that a clip gets; each is fed from the same decode."""
    found: list[Scorer] = [
        MotionScorer(config.motion),
        CameraScorer(config.camera),
        QualityScorer(config.quality),
        HashScorer(config.duplicates),
    ]
    return [*found, TextScorer(config.text)] if config.text.active else found


def _decoded(
    row: Source, config: AnalysisConfig, threads: int
) -> tuple[list[Clip], Source, dict[str, bytes]]:
    detector, wanted = CutDetector(config.cuts), scorers(config)
    times: list[float] = []
    with ExitStack() as stack:
        reader = stack.enter_context(open_source(located(row.path), limits=config.limits, threads=threads))
        kept = [config.keep.sampling] if config.keep.frames else []
        samplings = dict.fromkeys([_THUMBNAIL, *kept, *(scorer.sampling for scorer in wanted)])
        tracks = {
            sampling: stack.enter_context(closing(FrameTrack(sampling, reader.info)))
            for sampling in samplings
        }
        end_s = 0.0
        for picture in reader.pictures():
            detector.push(small_rgb(picture.raw), picture.pts_s)
            for track in tracks.values():
                track.offer(picture)
            times.append(picture.pts_s)
            end_s = picture.pts_s + picture.duration_s
        row = _measured(row, reader.info, len(times), end_s)
        spans = [
            part
            for shot in shots(detector.finish(), len(times))
            for part in split(shot, [*times, end_s], config.spans)
        ]
        clips = [_clip(row, span, [*times, end_s]) for span in spans]
        scored = [_scored(clip, wanted, tracks) for clip in clips]
        pictures = _thumbnails(clips, tracks[_THUMBNAIL])
        for sampling in kept:
            pictures |= _kept(clips, tracks[sampling], config.keep.frames)
        return scored, row, pictures


def _measured(row: Source, info: SourceInfo, frames: int, end_s: float) -> Source:
    duration_s = 0.0 if info.is_image else end_s
    return replace(
        row,
        codec=info.codec,
        width=info.width,
        height=info.height,
        fps=_rate(info.fps, frames, duration_s),
        frames=frames,
        duration_s=duration_s,
    )


def _rate(nominal: float, frames: int, duration_s: float) -> float:
    """The container's rate where it fits the timestamps, the measured one where it does not."""
    if duration_s <= 0:
        return 0.0
    measured = frames / duration_s
    return nominal if abs(nominal - measured) <= 0.02 * measured + 1 / duration_s else measured


def _clip(source: Source, span: Span, times_s: list[float]) -> Clip:
    start_s, end_s = times_s[span.start], times_s[span.end]
    still = source.duration_s == 0
    duration_s = 0.0 if still else end_s - start_s
    frames = span.end - span.start
    return Clip(
        clip_id=clip_id(source.sha256, span.start, span.end),
        source_id=source.source_id,
        source_path=source.path,
        start_frame=span.start,
        end_frame=span.end,
        start_s=start_s,
        end_s=start_s if still else end_s,
        cut_kind_start=span.kind_start,
        cut_kind_end=span.kind_end,
        frames=frames,
        fps=_rate(source.fps, frames, duration_s),
        width=source.width,
        height=source.height,
        aspect_ratio=source.height / source.width,
        duration_s=duration_s,
    )


def _scored(clip: Clip, wanted: list[Scorer], tracks: dict[Sampling, FrameTrack]) -> Clip:
    scores: dict[str, Any] = {}
    for scorer in wanted:
        scores |= scorer(*_sampled(clip, tracks[scorer.sampling]))
    return replace(clip, **scores)


def _sampled(clip: Clip, track: FrameTrack) -> tuple[UInt8[np.ndarray, "t h w c"], Float[np.ndarray, " t"]]:
    """The clip's frames in a track and their times; a still picture ends when it begins and has one frame."""
    return track.between(clip.start_s, max(clip.end_s, clip.start_s + 1e-6))


def _thumbnails(clips: list[Clip], track: FrameTrack) -> dict[str, bytes]:
    """The middle one of each clip's sampled frames."""
    found: dict[str, bytes] = {}
    for clip in clips:
        frames, _ = _sampled(clip, track)
        if len(frames):
            found[clip.clip_id] = image_bytes(frames[len(frames) // 2], ".jpg")
    return found


def kept_names(clip_id: str, count: int) -> list[str]:
    """Names of the pictures that are kept of a clip; one is the thumbnail."""
    return [f"{clip_id}-{place}of{count}" for place in range(count)] if count > 1 else [clip_id]


def _kept(clips: list[Clip], track: FrameTrack, count: int) -> dict[str, bytes]:
    """The middles of `count` equal parts of each clip, or the nearest sampled frames before them."""
    found: dict[str, bytes] = {}
    for clip in clips:
        frames, times = _sampled(clip, track)
        names = kept_names(clip.clip_id, count if clip.frames > 1 else 1)
        for place, name in enumerate(names if len(frames) else ()):
            wanted_s = clip.start_s + (clip.end_s - clip.start_s) * (place + 0.5) / len(names)
            index = max(0, int(np.searchsorted(times, wanted_s, side="right")) - 1)
            found[name] = image_bytes(frames[index], ".jpg")
    return found
