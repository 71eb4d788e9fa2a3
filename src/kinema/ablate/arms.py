"""The models of an ablation: which clips each trains on, what else differs, and what is left out and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinema.ablate.config import COLUMNS, AblationConfig
from kinema.curate.filters import SCORES, Bounds, Check, FilterConfig, checks, filtered, scores_of
from kinema.dataset.buckets import BucketRule, ClipShape, Timed
from kinema.dataset.plan import why_left_out
from kinema.dataset.streams import stream_seed
from kinema.errors import DatasetError
from kinema.manifest import Clip, read_clips
from kinema.train.config import TrainConfig

ALL = "all"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One model. `threshold` is the score at which its filter cuts; `images` trains before `train` does."""

    name: str
    words: str
    clips: tuple[Clip, ...]
    train: TrainConfig
    images: TrainConfig | None = None
    fraction: float | None = None
    threshold: float | None = None


@dataclass(frozen=True, kw_only=True)
class Design:
    """Everything that is decided before anything is trained. `studies` names the arms of each study;
    `left_out` says of a study or an arm why it is not there."""

    arms: dict[str, Arm]
    studies: dict[str, tuple[str, ...]]
    held_out: tuple[Clip, ...]
    left_out: dict[str, str]


def design(dataset: Path, config: AblationConfig) -> Design:
    """Raises `DatasetError` when nothing is left to compare."""
    pool = pool_of(read_clips(dataset), config)
    held_out = hold_out(pool, config)
    held = {clip.clip_id for clip in held_out}
    clips = [clip for clip in pool if clip.clip_id not in held]
    drawn = _Drawn(config, clips)
    for study in config.studies:
        drawn.add(study)
    if not drawn.studies:
        told = "; ".join(f"{name}: {why}" for name, why in drawn.left_out.items())
        raise DatasetError(f"{dataset}: nothing to compare. {told}")
    used = {name for names in drawn.studies.values() for name in names}
    arms = {name: arm for name, arm in drawn.arms.items() if name in used}
    return Design(arms=arms, studies=drawn.studies, held_out=held_out, left_out=drawn.left_out)


def pool_of(clips: Sequence[Clip], config: AblationConfig) -> list[Clip]:
    """The clips that take part: those that pass `filters` and that training can use."""
    kept = [clip for clip in filtered(clips, config.filters) if clip.kept]
    data = config.train.data
    return [clip for clip in kept if why_left_out(ClipShape.of(clip), data) is None]


def hold_out(pool: Sequence[Clip], config: AblationConfig) -> tuple[Clip, ...]:
    """Captioned moving clips that are long enough to be judged, drawn by the seed."""
    sampling = config.evaluate.sampling
    fitting = [
        clip
        for clip in pool
        if clip.captions and clip.frames > 1 and clip.duration_s >= (sampling.frames - 1) / sampling.fps
    ]
    wanted = max(2, round(config.held_out * len(pool)))
    if min(wanted, len(pool) - wanted, len(fitting)) < 2:
        raise DatasetError(
            f"{len(pool)} clips can take part and {len(fitting)} of them can be held out (captioned and at "
            f"least {(sampling.frames - 1) / sampling.fps:.2f} s long); two must be: add clips, or set "
            "held_out or evaluate.sampling"
        )
    order = sorted(fitting, key=lambda clip: stream_seed(config.seed, "held out", clip.clip_id))
    return tuple(order[:wanted])


class _Drawn:
    """Arms and studies as they are added."""

    def __init__(self, config: AblationConfig, clips: Sequence[Clip]) -> None:
        self.config, self.clips = config, clips
        self.arms: dict[str, Arm] = {ALL: self._arm(ALL, "all clips", clips, fraction=0.0)}
        self.studies: dict[str, tuple[str, ...]] = {}
        self.left_out: dict[str, str] = {}

    def add(self, study: str) -> None:
        match study:
            case "captions":
                self._captions()
            case "curation":
                self._curation()
            case "pretraining":
                self._pretraining()
            case _:
                self._annotation(study)

    def _arm(self, name: str, words: str, clips: Sequence[Clip], *, fraction: float | None = None) -> Arm:
        return Arm(name=name, words=words, clips=tuple(clips), train=self.config.train, fraction=fraction)

    def _study(self, name: str, arms: Sequence[Arm], *, with_all: bool) -> None:
        self.arms |= {arm.name: arm for arm in arms}
        self.studies[name] = (*((ALL,) if with_all else ()), *(arm.name for arm in arms))

    def _annotation(self, study: str) -> None:
        column, low_is_bad = COLUMNS[study]
        if all(getattr(clip, column) is None for clip in self.clips):
            self.left_out[study] = f"no clip has {column}; have it scored by kinema curate, or leave it out"
            return
        found = list[Arm]()
        for fraction in sorted(self.config.fractions):
            if fraction == 0:
                continue
            name = f"{study}-{100 * fraction:g}"
            check, kept = drop_worst(self.clips, column, fraction, low_is_bad=low_is_bad)
            if len(kept) == len(found[-1].clips if found else self.clips):
                told = f"no more clips than by {found[-1].name}" if found else "no clip"
                self.left_out[name] = f"drops {told}: too many clips have equal values of {column}"
                continue
            end = "lowest" if low_is_bad else "highest"
            arm = self._arm(name, f"{column} without the {end} {100 * fraction:g} %", kept, fraction=fraction)
            found.append(replace(arm, threshold=check.threshold))
        if found:
            self._study(study, found, with_all=0.0 in self.config.fractions or len(found) == 1)
        else:
            self.left_out[study] = f"no fraction drops a clip by {column}"

    def _captions(self) -> None:
        kinds = sorted({caption.kind for clip in self.clips for caption in clip.captions})
        full = [clip for clip in self.clips if {caption.kind for caption in clip.captions} >= set(kinds)]
        if len(kinds) < 2:
            told = f"of one kind only ({kinds[0]})" if kinds else "missing"
            self.left_out["captions"] = f"captions are {told}; add another kind with kinema caption"
            return
        if not full:
            self.left_out["captions"] = f"no clip has captions of every kind ({', '.join(kinds)})"
            return
        data = self.config.train.data
        arms = []
        for kind in kinds:
            weights = {other: float(other == kind) for other in kinds}
            train = replace(self.config.train, data=replace(data, caption_weights=weights))
            arms.append(replace(self._arm(f"captions-{kind}", f"captions: {kind}", full), train=train))
        self._study("captions", arms, with_all=False)

    def _curation(self) -> None:
        kept = [clip for clip in filtered(self.clips, self.config.curated) if clip.kept]
        if len(kept) in (0, len(self.clips)):
            self.left_out["curation"] = f"the filters of curated keep {len(kept)} of {len(self.clips)} clips"
            return
        self._study("curation", [self._arm("curated", "curated clips", kept)], with_all=True)

    def _pretraining(self) -> None:
        arm = self._arm("pretrained", f"{self.config.image_steps} steps on images first", self.clips)
        images = on_images(self.config.train, self.config.image_steps)
        self._study("pretraining", [replace(arm, images=images)], with_all=True)


def drop_worst(
    clips: Sequence[Clip], column: str, fraction: float, *, low_is_bad: bool
) -> tuple[Check, list[Clip]]:
    """What kinema filter does with the fraction alone: the check with its threshold, and the clips kept."""
    bounds = Bounds(**{"drop_lowest" if low_is_bad else "drop_highest": fraction})
    open_bounds = {name: Bounds() for name in SCORES} | {column: bounds}
    alone = FilterConfig(**open_bounds, near_duplicates=False)  # type: ignore[arg-type]
    (check,) = checks(scores_of(clips), alone)
    return check, [clip for clip, out in zip(clips, check.broken, strict=True) if not out]


def on_images(train: TrainConfig, steps: int) -> TrainConfig:
    """The same training on single frames of the same sizes."""
    sizes = dict.fromkeys(rule.resolution for rule in train.data.buckets)
    bucketing = train.data.bucketing
    if isinstance(bucketing, Timed):
        bucketing = replace(bucketing, video_as_image=1.0)
    buckets = tuple(BucketRule(resolution=size, frames=1) for size in sizes)
    return replace(train, steps=steps, data=replace(train.data, buckets=buckets, bucketing=bucketing))
