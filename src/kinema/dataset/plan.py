"""What a config makes of a dataset, before any time is spent on training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinema.dataset.buckets import (
    MIN_AREA,
    TOLERANCE_S,
    BucketRule,
    ClipShape,
    Published,
    RuleTable,
    Timed,
    effective_fps,
    seconds_needed,
)
from kinema.dataset.config import DataConfig
from kinema.dataset.sampler import build_schedule
from kinema.dataset.store import dataset_version
from kinema.errors import DatasetError
from kinema.manifest import Clip, read_clips
from kinema.shapes import Bucket, resolution

_SHOWN = 8
_EPOCHS = 4
"""Epochs that the counts are averaged over when clips are kept by chance."""


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """One bucket: clips and batches of an average epoch, frames that the network then sees."""

    bucket: str
    resolution: str
    height: int
    width: int
    bucket_frames: int
    clips: float
    frames: float
    batch_size: int
    batches: float


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A clip that no bucket takes, and why."""

    clip_id: str
    source_path: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Rows per bucket, clips that never train, and what looks wrong."""

    dataset_version: str
    kept: int
    usable: int
    rows: tuple[PlanRow, ...]
    video_share: float
    left_out: tuple[LeftOut, ...]
    dropped: dict[str, int]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """A table, then what is left out, then warnings."""
        lines = [f"{'bucket':<24}{'clips':>9}{'frames':>10}{'batch size':>12}{'batches an epoch':>18}"]
        lines += [
            f"{row.bucket:<24}{row.clips:>9.4g}{row.frames:>10.6g}{row.batch_size:>12}{row.batches:>18.4g}"
            for row in self.rows
        ]
        return "\n".join(lines + self.remarks())

    def remarks(self) -> list[str]:
        """What is used, what is left out and why, and the warnings, a line each."""
        lines = [
            f"{self.usable} of {self.kept} kept clips are used; {self.video_share:.0%} of an epoch is video, "
            "the rest single frames"
        ]
        lines += _grouped(self.left_out)
        lines += [
            f"dropped by curation: {count} x {reason}" for reason, count in sorted(self.dropped.items())
        ]
        return lines + [f"warning: {warning}" for warning in self.warnings]


def _grouped(left_out: Sequence[LeftOut]) -> list[str]:
    """One line a reason, most frequent first, with a clip that it happened to."""
    counts = Counter(item.reason for item in left_out)
    example = {item.reason: item for item in reversed(left_out)}
    lines = [
        f"left out: {count} x {reason} (clip {example[reason].clip_id} of "
        f"{Path(example[reason].source_path).name})"
        for reason, count in counts.most_common(_SHOWN)
    ]
    others = len(left_out) - sum(count for _, count in counts.most_common(_SHOWN))
    return lines + ([f"left out: {others} more"] if others else [])


def make_plan(dataset: Path, config: DataConfig) -> Plan:
    """Count what each bucket gets. Raises `DatasetError` that names the mend when no clip can be used."""
    clips = read_clips(dataset)
    kept = [clip for clip in clips if clip.kept]
    reasons = [(clip, _weightless(clip, config) or why_left_out(ClipShape.of(clip), config)) for clip in kept]
    left_out = tuple(
        LeftOut(clip_id=clip.clip_id, source_path=clip.source_path, reason=reason)
        for clip, reason in reasons
        if reason
    )
    dropped = Counter(reason for clip in clips if not clip.kept for reason in clip.drop_reasons[:1] or ("?",))
    if len(left_out) == len(kept):
        raise DatasetError(_nothing_usable(dataset, left_out, dropped))
    rows = tuple(_rows(kept, config))
    if _drops_last(config) and all(row.batches < 1 for row in rows):
        raise DatasetError(
            f"nothing to train on in {dataset}: no bucket has clips for one batch, and unfilled ones are "
            "dropped; lower the batch sizes, or use the bucketing of kind timed, which carries clips over"
        )
    return Plan(
        dataset_version=dataset_version(kept),
        kept=len(kept),
        usable=len(kept) - len(left_out),
        rows=rows,
        video_share=_video_share(rows),
        left_out=left_out,
        dropped=dict(dropped),
        warnings=tuple(_warnings(kept, rows, config)),
    )


def why_left_out(shape: ClipShape, config: DataConfig) -> str | None:
    """In words, why no bucket can ever take a clip of this shape; None when one can."""
    used = tuple(rule for rule in config.buckets if rule.keep_prob > 0)
    fitting = [placed.rule for placed in RuleTable(used).fitting(shape)]
    if not fitting:
        return _too_small(shape, used)
    stills = [rule for rule in fitting if rule.frames == 1]
    videos = [rule for rule in fitting if rule.frames > 1]
    if shape.is_image:
        return None if stills else "it is an image, and no bucket of its size has 1 frame"
    if stills and isinstance(config.bucketing, Timed) and config.bucketing.video_as_image > 0:
        return None
    if not videos:
        return "it is a video, and every bucket of its size has 1 frame"
    return _too_short(shape, min(rule.frames for rule in videos), config)


def _drops_last(config: DataConfig) -> bool:
    return isinstance(config.bucketing, Published) and config.bucketing.drop_last


def _weightless(clip: Clip, config: DataConfig) -> str | None:
    unused = isinstance(config.bucketing, Timed) and config.bucketing.weight(clip) == 0
    return "its weight is 0" if unused else None


def _too_small(shape: ClipShape, used: Sequence[BucketRule]) -> str:
    if not used:
        return "every bucket has keep_prob 0"
    smallest = min((resolution(rule.resolution) for rule in used), key=lambda area: area.area)
    return (
        f"{shape.width}x{shape.height} pixels are fewer than {MIN_AREA:.0%} of the {smallest.area} "
        f"that {smallest.name} needs"
    )


def _too_short(shape: ClipShape, frames: int, config: DataConfig) -> str | None:
    match config.bucketing:
        case Timed(fps=fps):
            needed = seconds_needed(shape, frames, fps)
            if shape.duration_s + TOLERANCE_S >= needed:
                return None
            return (
                f"{shape.duration_s:.1f} s is shorter than the {needed:.1f} s that {frames} frames "
                f"at {effective_fps(shape, fps):g} fps need"
            )
        case Published(frame_interval=interval):
            needed_frames = frames * interval + 1
            if shape.frames >= needed_frames:
                return None
            return (
                f"{shape.frames} frames are fewer than the {needed_frames} that {frames} frames "
                f"at a frame interval of {interval} need"
            )


def _rows(kept: list[Clip], config: DataConfig) -> list[PlanRow]:
    schedule = build_schedule(kept, config)
    clips: Counter[Bucket] = Counter()
    for epoch in range(_EPOCHS):
        for bucket, members in schedule.members(epoch).items():
            clips[bucket] += len(members)
    sizes = {(rule.resolution, rule.frames): config.batch_size_of(rule) for rule in config.buckets}
    return [
        _row(bucket, clips[bucket] / _EPOCHS, sizes[bucket.resolution, bucket.frames])
        for bucket in sorted(clips, key=lambda bucket: (-bucket.size.area * bucket.frames, bucket))
    ]


def _video_share(rows: Sequence[PlanRow]) -> float:
    """Of the clips of an average epoch, those that train as more than one frame."""
    total = sum(row.clips for row in rows)
    return sum(row.clips for row in rows if row.bucket_frames > 1) / total if total else 0.0


def _row(bucket: Bucket, clips: float, batch_size: int) -> PlanRow:
    return PlanRow(
        bucket=str(bucket),
        resolution=bucket.resolution,
        height=bucket.size.height,
        width=bucket.size.width,
        bucket_frames=bucket.frames,
        clips=clips,
        frames=clips * bucket.frames,
        batch_size=batch_size,
        batches=clips / batch_size,
    )


def _warnings(kept: list[Clip], rows: Sequence[PlanRow], config: DataConfig) -> list[str]:
    warnings = []
    served = {(row.resolution, row.bucket_frames) for row in rows if row.clips}
    images = any(clip.frames == 1 for clip in kept)
    for rule in config.buckets:
        expected = rule.keep_prob > 0 and (images or rule.frames > 1)
        if expected and (rule.resolution, rule.frames) not in served:
            warnings.append(
                f"no clip fits {rule.resolution} with frames = {rule.frames}, or larger buckets take all "
                "that do: it never trains"
            )
    if _drops_last(config):
        warnings += [
            f"{row.bucket}: {row.clips:g} clips never fill a batch of {row.batch_size}: it never trains"
            for row in rows
            if row.batches < 1
        ]
    repeating = sum(0 < row.batches < 1 for row in rows)
    if isinstance(config.bucketing, Timed) and repeating:
        warnings.append(
            f"buckets with fewer clips than a batch: {repeating}; later epochs fill it up with the same clips"
        )
    if not any(row.bucket_frames > 1 and row.clips for row in rows):
        warnings.append("no video is trained on, only single frames")
    silent = sum(not any(caption.text.strip() for caption in clip.captions) for clip in kept)
    if silent:
        warnings.append(f"{silent} of {len(kept)} clips have no caption: prompts will not reach them")
    return warnings


def _nothing_usable(dataset: Path, left_out: Sequence[LeftOut], dropped: Counter[str]) -> str:
    if left_out:
        reason, count = Counter(item.reason for item in left_out).most_common(1)[0]
        found = f"{len(left_out)} clips, all left out; {count} of them because {reason}"
        mend = "choose buckets with fewer frames or a smaller resolution, or add longer or larger footage"
    else:
        worst = (
            ", ".join(f"{count} x {reason}" for reason, count in dropped.most_common(3)) or "no clip at all"
        )
        found = f"no kept clip ({worst})"
        mend = "loosen the filters of kinema curate, or add footage"
    return f"nothing to train on in {dataset}: {found}; {mend}"
