"""A dataset of ten small clips with scores, and the smallest ablation on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinema.ablate.config import AblationConfig
from kinema.dataset.buckets import BucketRule, Timed
from kinema.dataset.config import DataConfig
from kinema.evaluate.metrics import EvaluateConfig
from kinema.evaluate.sampling import Sampling
from kinema.files import write_text
from kinema.manifest import Caption, Clip, read_clips, write_clips
from kinema.train.config import TrainConfig


@pytest.fixture(scope="session")
def scored(squares: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of one source, with motion scores 0 to 9, text areas, and captions of two kinds."""
    folder = tmp_path_factory.mktemp("scored") / "dataset"
    (clip, *_) = read_clips(squares)
    rows = [numbered(clip, number) for number in range(10)]
    write_text(folder / "dataset.toml", "")
    write_clips(folder, "0", rows)
    return folder


def numbered(clip: Clip, number: int) -> Clip:
    captions = (
        Caption(text=f"square {number}", kind="human"),
        Caption(text=f"it moves {number}", kind="video"),
    )
    return replace(
        clip,
        clip_id=f"{number:016d}",
        motion_score=float(number),
        text_area=0.01 * (number // 5),
        captions=captions,
        width=64,
        height=64,
        kept=number % 2 == 0,
    )


@pytest.fixture(scope="session")
def small_ablation(small_run: TrainConfig) -> AblationConfig:
    data = DataConfig(
        buckets=(BucketRule(resolution="32px", frames=4),), bucketing=Timed(fps=6.0), batch_size=2, workers=0
    )
    train = replace(small_run, data=data, steps=2, save_every=1)
    sampling = Sampling(frames=4, fps=6.0, height=32, width=32)
    return AblationConfig(
        studies=("motion", "captions", "aesthetics"),
        fractions=(0.0, 0.5),
        prompt_count=2,
        train=train,
        evaluate=EvaluateConfig(sampling=sampling, bootstraps=5),
        voter="simulated",
        simulated_voters=1,
        resamples=50,
    )
