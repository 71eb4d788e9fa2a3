from __future__ import annotations

import numpy as np
import pytest

from kinema.dataset.buckets import BucketRule
from kinema.dataset.config import DataConfig
from kinema.demo.comparison import chosen_clips, psnr
from kinema.manifest import Clip
from kinema.page.charts import loss_curve


def clip(name: str, source: str, duration_s: float, kept: bool = True) -> Clip:
    return Clip(
        clip_id=name,
        source_id=source,
        source_path=f"{source}.mp4",
        start_frame=0,
        end_frame=int(24 * duration_s),
        start_s=0.0,
        end_s=duration_s,
        cut_kind_start="start",
        cut_kind_end="end",
        frames=int(24 * duration_s),
        fps=24.0,
        width=64,
        height=64,
        aspect_ratio=1.0,
        duration_s=duration_s,
        kept=kept,
    )


def test_every_source_is_shown_before_a_second_clip_of_one() -> None:
    clips = [
        clip("a1", "a", 9),
        clip("a2", "a", 8),
        clip("b1", "b", 3),
        clip("gone", "c", 9, kept=False),
        clip("short", "d", 0.2),
    ]
    config = DataConfig(buckets=(BucketRule(resolution="64px", frames=8),))
    shown = [item.clip_id for item, bucket in chosen_clips(clips, config, most=3) if bucket.frames == 8]
    assert shown == ["a1", "b1", "a2"]


def test_psnr_of_a_known_error() -> None:
    black = np.zeros((2, 4, 4, 3), np.uint8)
    assert psnr(black, black + 255) == pytest.approx(0.0)
    assert psnr(black, black + 16) == pytest.approx(20 * np.log10(255 / 16))


def test_the_loss_curve_falls_where_the_loss_falls() -> None:
    svg = loss_curve([(step, 1.0 / (step + 1)) for step in range(120)])
    heights = [float(point.split(",")[1]) for point in svg.split('points="')[1].split('"')[0].split()]
    assert heights == sorted(heights)
    assert "Too few" in loss_curve([(0, 1.0)])
