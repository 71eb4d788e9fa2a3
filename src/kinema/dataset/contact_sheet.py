"""A picture of what the network will see: the first samples of each bucket, after every choice and cut."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from kinema.dataset.config import DataConfig
from kinema.dataset.latents import StoredEncodings
from kinema.dataset.loader import ClipReader, Item
from kinema.dataset.sampler import build_schedule
from kinema.dataset.schedule import PlannedBatch, Sample, Schedule
from kinema.dataset.store import kept_clips
from kinema.errors import DatasetError
from kinema.shapes import Bucket

_WIDTH, _MARGIN, _FACTS = 1280, 24, 250
_GAP, _TALLEST, _MOST_FRAMES = 4, 150, 8
_PAPER, _CARD, _INK, _QUIET, _ACCENT = "#f4f2ee", "#ffffff", "#22252a", "#6d737c", "#b4541f"
_EPOCHS = 4
"""Epochs that are asked for their buckets: chance may keep a bucket empty in the first."""
_FONTS = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf")


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A sample of the first batch of a bucket; `error` says why there are no frames."""

    bucket: Bucket
    batch: PlannedBatch
    sample: Sample
    item: Item | None = None
    error: str = ""


def first_samples(dataset: Path, config: DataConfig, steps: int, each: int = 2) -> list[Shown]:
    """The first `each` clips of every bucket that occurs in the first `steps` steps, read as training reads
    them; largest buckets first."""
    schedule = build_schedule(kept_clips(dataset), config)
    reader = ClipReader(dataset, replace(config, cache_mb=0), schedule, StoredEncodings())
    first = _first_batches(schedule, steps)
    order = sorted(first, key=lambda bucket: (-bucket.size.area * bucket.frames, bucket))
    return [
        _read(reader, first[bucket], place)
        for bucket in order
        for place in _different(first[bucket].samples)[:each]
    ]


def draw_sheet(title: str, shown: list[Shown], most: int = 40) -> UInt8[np.ndarray, "h w 3"]:
    """A card a sample: the bucket, the step, the caption, and frames in a row."""
    cards = [_card(one) for one in shown[:most]]
    total = 64 + sum(card.height + 12 for card in cards) + 40
    sheet = Image.new("RGB", (_WIDTH, total), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 20), title, fill=_INK, font=_font(22, bold=True))
    top = 64
    for card in cards:
        sheet.paste(card, (_MARGIN, top))
        top += card.height + 12
    left_out = f"{len(shown) - most} more samples are not shown. " if len(shown) > most else ""
    note = "Frames exactly as they go into training: chosen, scaled, cropped."
    pen.text((_MARGIN, top + 2), left_out + note, fill=_QUIET, font=_font(13))
    return np.asarray(sheet)


def _first_batches(schedule: Schedule, steps: int) -> dict[Bucket, PlannedBatch]:
    epochs = (schedule.members(epoch) for epoch in range(_EPOCHS))
    expected = {bucket for members in epochs for bucket, clips in members.items() if clips}
    found: dict[Bucket, PlannedBatch] = {}
    for step in range(steps):
        batch = schedule.batch(step)
        found.setdefault(batch.bucket, batch)
        if expected <= set(found):
            break
    return found


def _different(samples: Sequence[Sample]) -> list[int]:
    """The places of the first sample of each clip."""
    ids = [sample.clip.clip_id for sample in samples]
    return [place for place, clip in enumerate(ids) if clip not in ids[:place]]


def _read(reader: ClipReader, batch: PlannedBatch, place: int) -> Shown:
    sample = batch.samples[place]
    [read] = reader.reads(replace(batch, samples=(sample,)))
    try:
        return Shown(bucket=batch.bucket, batch=batch, sample=sample, item=read())
    except DatasetError as error:
        return Shown(bucket=batch.bucket, batch=batch, sample=sample, error=str(error))


def _card(shown: Shown) -> Image.Image:
    inner = _WIDTH - 2 * _MARGIN
    strip = _strip(shown, inner - _FACTS - 16)
    lines = list(_words(shown))
    height = max(strip.height + 24 + 20 * len(lines), 118)
    card = Image.new("RGB", (inner, height), _CARD)
    pen = ImageDraw.Draw(card)
    pen.rectangle((0, 0, 4, height), fill=_ACCENT)
    bold = _font(17, bold=True)
    pen.text((18, 12), f"{shown.bucket.resolution} · {_count(shown.bucket.frames)}", fill=_INK, font=bold)
    for row, text in enumerate(_facts(shown)):
        pen.text((18, 40 + 19 * row), text, fill=_QUIET, font=_font(13))
    card.paste(strip, (_FACTS, 12))
    for row, (text, colour) in enumerate(lines):
        pen.text((_FACTS, 12 + strip.height + 6 + 20 * row), text, fill=colour, font=_font(14))
    return card


def _facts(shown: Shown) -> list[str]:
    size, samples = shown.bucket.size, len(shown.batch.samples)
    pace = "" if shown.item is None else f", told {shown.item.choice.window.fps:g} fps"
    return [
        f"{size.width} x {size.height} pixels{pace}",
        f"first in step {shown.batch.step}, {samples} clips",
        _cut(Path(shown.sample.clip.source_path).name, 30),
        f"clip {shown.sample.clip.clip_id[:16]}, {shown.sample.clip.start_s:.1f} s on",
    ]


def _words(shown: Shown) -> Iterator[tuple[str, str]]:
    """At most two lines of caption, or why there is nothing to see."""
    if shown.item is None:
        yield _cut(shown.error, 130), _ACCENT
        return
    caption = shown.item.choice.caption
    mirrored = " (mirrored)" if shown.item.choice.flipped else ""
    lines = textwrap.wrap(caption + mirrored, 118, max_lines=2, placeholder=" …")
    yield from ((line, _INK) for line in lines)
    if not caption:
        yield "no caption" + mirrored, _QUIET


def _strip(shown: Shown, width: int) -> Image.Image:
    """Some frames, evenly spread, side by side; whole pixels where they are enlarged."""
    if shown.item is None or shown.item.frames is None:
        return Image.new("RGB", (width, 40), "#ece8e2")
    frames = shown.item.frames
    count = min(len(frames), _MOST_FRAMES)
    places = np.linspace(0, len(frames) - 1, count).round().astype(int)
    height, across = frames.shape[1:3]
    room = (width - (_MOST_FRAMES - 1) * _GAP) // _MOST_FRAMES if count > 1 else width
    scale = min(room / across, _TALLEST / height)
    scale = float(int(scale)) if scale >= 2 else scale
    size = (max(1, round(across * scale)), max(1, round(height * scale)))
    way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    strip = Image.new("RGB", (count * (size[0] + _GAP) - _GAP, size[1]), _CARD)
    for number, place in enumerate(places):
        picture = Image.fromarray(np.ascontiguousarray(frames[place])).resize(size, way)
        strip.paste(picture, (number * (size[0] + _GAP), 0))
    return strip


def _count(frames: int) -> str:
    return "single frame" if frames == 1 else f"{frames} frames"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """One that knows many scripts where the system has it, else Pillow's own."""
    try:
        return ImageFont.truetype(_FONTS[bold], size)
    except OSError:
        return ImageFont.load_default(size)
