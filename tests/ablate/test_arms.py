"""Which clips each model trains on: fractions of the clips that take part, and why others are not there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from kinema.ablate.arms import ALL, design, drop_worst
from kinema.ablate.config import AblationConfig
from kinema.curate.filters import Bounds, FilterConfig
from kinema.dataset.store import kept_clips, source_file
from kinema.dataset.view import write_view
from kinema.errors import DatasetError
from kinema.manifest import read_clips


def test_a_fraction_drops_the_worst_of_the_clips_that_take_part(
    scored: Path, small_ablation: AblationConfig
) -> None:
    made = design(
        scored, replace(small_ablation, studies=("motion", "text_area"), fractions=(0.0, 0.25, 0.5))
    )
    everything = made.arms[ALL].clips
    assert len(made.held_out) == 2
    assert {clip.clip_id for clip in everything}.isdisjoint(clip.clip_id for clip in made.held_out)
    assert made.studies["motion"] == (ALL, "motion-25", "motion-50")
    scores = sorted(clip.motion_score for clip in everything)
    half = made.arms["motion-50"]
    assert sorted(clip.motion_score for clip in half.clips) == scores[4:]
    assert half.threshold == scores[4]
    assert max(clip.text_area for clip in made.arms["text_area-50"].clips) == 0.0


def test_clips_that_the_dataset_dropped_take_part_where_the_filters_let_them(
    scored: Path, small_ablation: AblationConfig
) -> None:
    dropped = {clip.clip_id for clip in read_clips(scored) if not clip.kept}
    assert any(clip.clip_id in dropped for clip in design(scored, small_ablation).arms[ALL].clips)
    narrow = replace(small_ablation, filters=FilterConfig(motion_score=Bounds(min=4)))
    assert len(design(scored, narrow).arms[ALL].clips) + len(design(scored, narrow).held_out) == 6


def test_an_annotation_without_scores_is_left_out_in_words(
    scored: Path, small_ablation: AblationConfig
) -> None:
    made = design(scored, small_ablation)
    assert made.left_out == {
        "aesthetics": "no clip has aesthetic_score; have it scored by kinema curate, or leave it out"
    }
    with pytest.raises(DatasetError, match=r"nothing to compare\. text_match: no clip has text_match"):
        design(scored, replace(small_ablation, studies=("text_match",)))


def test_captions_are_compared_by_kind(scored: Path, small_ablation: AblationConfig) -> None:
    made = design(scored, small_ablation)
    assert made.studies["captions"] == ("captions-human", "captions-video")
    weights = made.arms["captions-human"].train.data.caption_weights
    assert weights == {"human": 1.0, "video": 0.0}


def test_curation_and_pretraining_stand_beside_all_clips(
    scored: Path, small_ablation: AblationConfig
) -> None:
    curated = FilterConfig(motion_score=Bounds(min=5))
    config = replace(small_ablation, studies=("curation", "pretraining"), curated=curated, image_steps=7)
    made = design(scored, config)
    assert made.studies == {"curation": (ALL, "curated"), "pretraining": (ALL, "pretrained")}
    assert min(clip.motion_score for clip in made.arms["curated"].clips) >= 5
    images = made.arms["pretrained"].images
    assert images is not None
    assert (images.steps, [rule.frames for rule in images.data.buckets]) == (7, [1])


def test_equal_scores_fall_together_or_not_at_all(scored: Path) -> None:
    clips = [replace(clip, motion_score=1.0) for clip in read_clips(scored)]
    _, kept = drop_worst(clips, "motion_score", 0.5, low_is_bad=True)
    assert len(kept) == len(clips)


def test_a_fraction_that_drops_the_same_clips_is_not_trained_twice(
    scored: Path, small_ablation: AblationConfig
) -> None:
    made = design(scored, replace(small_ablation, studies=("text_area",), fractions=(0.0, 0.1, 0.5, 0.6)))
    assert made.studies["text_area"] == (ALL, "text_area-50")
    assert made.left_out["text_area-60"].startswith("drops no more clips than by text_area-50: too many")
    assert made.left_out["text_area-10"].startswith("drops no clip: too many clips have equal values")


def test_too_few_clips_to_hold_out_are_refused(scored: Path, small_ablation: AblationConfig) -> None:
    sampling = replace(small_ablation.evaluate.sampling, frames=99)
    config = replace(small_ablation, evaluate=replace(small_ablation.evaluate, sampling=sampling))
    with pytest.raises(DatasetError, match="10 clips can take part and 0 of them can be held out"):
        design(scored, config)


def test_a_view_refers_to_the_pixels_and_leaves_the_dataset_alone(scored: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in scored.rglob("*") if path.is_file()}
    clips = [clip for clip in read_clips(scored) if not clip.kept]
    write_view(scored, tmp_path / "view", clips)
    seen = kept_clips(tmp_path / "view")
    assert [clip.clip_id for clip in seen] == [clip.clip_id for clip in clips]
    assert all(source_file(tmp_path / "view", clip).is_file() for clip in seen)
    assert before == {path: path.read_bytes() for path in scored.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"studies": ()}, "name each study once"),
        ({"fractions": (0.0,)}, "one above 0"),
        ({"fractions": (0.5, 1.0)}, r"in \[0, 1\)"),
        ({"devices": ("tpu",)}, '"cpu" or "cuda:N"'),
        ({"held_out": 0.0}, "held_out must be"),
        ({"prompt_count": 0}, "prompt_count must be"),
    ],
)
def test_the_config_refuses_nonsense(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AblationConfig(**changes)
