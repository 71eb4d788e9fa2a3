"""What the model makes of the clips it was trained on, beside the clips themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from kinema.dataset.buckets import Timed
from kinema.dataset.config import DataConfig
from kinema.dataset.sampler import build_schedule
from kinema.generate.pipeline import GenerateConfig, generate
from kinema.manifest import Clip
from kinema.progress import Progress
from kinema.shapes import Bucket
from kinema.video.reader import read_frames
from kinema.video.transforms import cover, resize_crop
from kinema.video.writer import write_image, write_video

Frames = UInt8[np.ndarray, "t h w 3"]
_ROWS = ("original", "caption + first frame", "caption alone")
_FRAME_WIDTH, _LABEL_HEIGHT = 128, 22


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """An original clip beside what the model made of it; paths are relative to the demo's folder.

    `psnr_from_frame` is over the frames that were not given, `psnr_still` that of the first frame repeated.
    """

    name: str
    caption: str
    original: str
    from_frame: str
    from_text: str
    strip: str
    psnr_from_frame: float
    psnr_still: float


def chosen_clips(clips: Sequence[Clip], config: DataConfig, most: int) -> list[tuple[Clip, Bucket]]:
    """Clips that train as video: the longest of every source first, then the next longest."""
    kept = [clip for clip in clips if clip.kept]
    members = build_schedule(kept, config).members(0)
    videos = [(clip, bucket) for bucket, inside in members.items() if bucket.frames > 1 for clip in inside]
    videos.sort(key=lambda pair: (-pair[0].duration_s, pair[0].clip_id))
    rank: dict[str, int] = {}
    turns = []
    for clip, bucket in videos:
        rank[clip.source_id] = rank.get(clip.source_id, -1) + 1
        turns.append((rank[clip.source_id], clip, bucket))
    turns.sort(key=lambda turn: turn[0])
    return [(clip, bucket) for _, clip, bucket in turns[:most]]


def compare(clip: Clip, bucket: Bucket, config: DataConfig, out: Path, progress: Progress) -> Comparison:
    """Generate from the clip's caption, with and without its first frame, and write all three."""
    name = f"{Path(clip.source_path).stem}-{clip.start_s:.1f}s"
    stem = out / "videos" / name
    fps = _fps(clip, config)
    original = _original(clip, bucket, fps)
    picture = stem.with_name(f"{name}-first-frame.png")
    write_image(picture, original[0])
    write_video(stem.with_name(f"{name}-original.mp4"), original, fps)
    caption = clip.captions[0].text if clip.captions else Path(clip.source_path).stem

    def made(kind: str, image: Path | None) -> Frames:
        target = stem.with_name(f"{name}-{kind}.mp4")
        request = GenerateConfig(
            prompt=caption,
            image=image,
            frames=bucket.frames,
            height=bucket.size.height,
            width=bucket.size.width,
            fps=fps,
        )
        generate(out / "run", request, target, progress)
        return read_frames(target, [index / fps for index in range(bucket.frames)])

    from_frame, from_text = made("from-frame", picture), made("from-text", None)
    strip = stem.with_name(f"{name}-frames.png")
    write_image(strip, _strip([original, from_frame, from_text]))
    return Comparison(
        name=name,
        caption=caption,
        original=f"videos/{name}-original.mp4",
        from_frame=f"videos/{name}-from-frame.mp4",
        from_text=f"videos/{name}-from-text.mp4",
        strip=f"videos/{strip.name}",
        psnr_from_frame=psnr(original[1:], from_frame[1:]),
        psnr_still=psnr(original[1:], np.repeat(original[:1], bucket.frames - 1, axis=0)),
    )


def write_overview(out: Path, comparisons: Sequence[Comparison]) -> Path:
    """demo.png: the strips of all comparisons, one below the other."""
    strips = [read_frames(out / item.strip, [0.0])[0] for item in comparisons]
    width = max((strip.shape[1] for strip in strips), default=1)
    padded = [
        np.pad(strip, ((0, 12), (0, width - strip.shape[1]), (0, 0)), constant_values=255) for strip in strips
    ]
    picture = out / "demo.png"
    write_image(picture, np.concatenate(padded) if padded else np.full((1, 1, 3), 255, np.uint8))
    return picture


def psnr(reference: Frames, made: Frames) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit frames."""
    error = float(np.mean((reference.astype(np.float64) - made.astype(np.float64)) ** 2))
    return float(10 * np.log10(255**2 / max(error, 1e-6)))


def _fps(clip: Clip, config: DataConfig) -> float:
    if isinstance(config.bucketing, Timed):
        return min(config.bucketing.fps, clip.fps)
    return clip.fps


def _original(clip: Clip, bucket: Bucket, fps: float) -> Frames:
    times = [clip.start_s + index / fps for index in range(bucket.frames)]
    frames = read_frames(Path(clip.source_path), times, size=cover(clip.height, clip.width, bucket.size))
    return resize_crop(frames, bucket.size)


def _strip(rows: Sequence[Frames]) -> UInt8[np.ndarray, "h w 3"]:
    """One row of frames for each of `_ROWS`, enlarged, each with its label above."""
    parts = []
    for label, frames in zip(_ROWS, rows, strict=True):
        height = round(_FRAME_WIDTH * frames.shape[1] / frames.shape[2])
        large = [cv2.resize(f, (_FRAME_WIDTH, height), interpolation=cv2.INTER_NEAREST) for f in frames]
        band = np.full((_LABEL_HEIGHT, _FRAME_WIDTH * len(frames), 3), 255, np.uint8)
        cv2.putText(band, label, (4, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (40, 40, 40), 1, cv2.LINE_AA)
        parts += [band, np.concatenate(large, axis=1)]
    return np.concatenate(parts)
