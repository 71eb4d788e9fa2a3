"""Judge a set of videos: per-video metrics, nearness to references, distances to another set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from kinema import __version__
from kinema.encoders.clip import Clip, ClipConfig
from kinema.errors import ConfigError, DatasetError, DecodeError
from kinema.evaluate import temporal_metrics as temporal
from kinema.evaluate.features import EmbeddedConfig, FeatureNetwork, FeaturesConfig, build_features
from kinema.evaluate.frechet import (
    Estimate,
    distance_estimate,
    frechet_distance,
    kernel_distance,
    mean_estimate,
)
from kinema.evaluate.intentions import clip_metrics, clip_name, stated_metrics
from kinema.evaluate.lpips import Lpips, load_lpips, lpips
from kinema.evaluate.protocol import Protocol
from kinema.evaluate.reference_metrics import psnr, ssim
from kinema.evaluate.report import write_result
from kinema.evaluate.sampling import Sampling, Span, cover_crop, digest, find_spans, native, sample
from kinema.files import writable_folder
from kinema.progress import Progress, Silent
from kinema.shapes import Size

T = TypeVar("T")
Table = dict[str, Float[np.ndarray, " n"]]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """`paired`: PSNR and SSIM against the video of the same name, and LPIPS where its weights are given.
    `most_frames` bounds what the per-video metrics look at. `features` decides what a distance means. `clip`
    is a folder or hub name of CLIP weights, for text match and subject drift."""

    sampling: Sampling = field(default_factory=Sampling)
    features: FeaturesConfig = field(default_factory=EmbeddedConfig)
    clip: str = ""
    paired: bool = False
    lpips: Path | None = None
    most_frames: int = 240
    bootstraps: int = 200
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most_frames < 1 or self.bootstraps < 0 or not 0 < self.confidence < 1:
            raise ValueError(f"most_frames >= 1, bootstraps >= 0, 0 < confidence < 1 are needed, got {self}")
        if self.lpips and not self.paired:
            raise ValueError("lpips compares pairs: set paired as well")


@dataclass
class Skips:
    """Videos that could not be judged, and why."""

    reasons: dict[str, str] = field(default_factory=dict)

    def attempt(self, span: Span, work: Callable[[Span], T]) -> T | None:
        """What `work` makes of the span, or None with the reason kept."""
        try:
            return work(span)
        except DecodeError as error:
            self.reasons[f"{span.path} [{span.name}]"] = str(error)
            return None


def evaluate(
    videos: Path,
    against: Path | None,
    out: Path,
    config: EvaluateConfig | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge `videos`, alone or `against` a folder of videos or a dataset; plain JSON data.

    Writes `evaluation.json`, `evaluation.md` and `plots/*.svg` into `out`. Videos that cannot be judged
    are in "skipped" with the reason; none left is a `DatasetError`.
    """
    config, progress = config or EvaluateConfig(), progress or Silent()
    if against is None and (config.paired or config.lpips):
        raise ConfigError(
            "paired metrics and lpips need references: add --against with videos of the same names"
        )
    writable_folder(out)
    network = None if against is None else build_features(config.features)
    skips = Skips()
    spans = find_spans(videos)
    tables = {"videos": video_table(spans, config, skips, progress)}
    estimates = _means(tables["videos"], config)
    protocol: dict[str, Any] = {"most_frames": config.most_frames, "clip": clip_name(config.clip)}
    notes: list[str] = []
    if against is not None and network is not None:
        references = find_spans(against)
        tables["against"] = video_table(references, config, skips, progress)
        sets = [_features(own, network, config, skips, progress) for own in (spans, references)]
        estimates |= _distances(sets, config, skips)
        protocol |= Protocol(
            features=network.name,
            sampling=config.sampling,
            videos=len(sets[0]),
            against=digest(references),
            against_videos=len(sets[1]),
        ).as_dict()
        notes.append(f"frechet_distance and kernel_distance: {network.about}")
        if config.paired:
            estimates = _paired(spans, references, config, skips) | estimates
    result = {
        "kinema": __version__,
        "videos": len(spans),
        "metrics": {name: asdict(estimate) for name, estimate in estimates.items()},
        "protocol": protocol,
        "notes": notes,
        "skipped": skips.reasons,
        "seed": config.seed,
        "confidence": config.confidence,
    }
    write_result(out, result, tables)
    return result


def video_table(spans: list[Span], config: EvaluateConfig, skips: Skips, progress: Progress) -> Table:
    """One value per video of every metric that needs no references; fewer where only some videos have one."""
    clip = Clip(ClipConfig(source=config.clip)) if config.clip else None
    progress.stage("motion and flicker", len(spans))
    rows = []
    for span in spans:
        row = skips.attempt(span, partial(video_metrics, config=config, clip=clip))
        if row is not None:
            rows.append(row | (skips.attempt(span, partial(stated_metrics, most=config.most_frames)) or {}))
        progress.advance(1, span.name)
    if not rows:
        first = next(iter(skips.reasons.values()))
        raise DatasetError(f"none of the {len(spans)} videos can be judged; the first: {first}")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row[name] for row in rows if name in row]) for name in names}


def video_metrics(span: Span, config: EvaluateConfig, clip: Clip | None = None) -> dict[str, float]:
    """The metrics of one video, at `temporal_metrics.FLOW_WIDTH` pixels of width; and by CLIP where given."""
    frames, fps = native(span, config.most_frames, temporal.FLOW_WIDTH)
    little = temporal.small(frames)
    found = {
        "temporal_flicker": temporal.temporal_flicker(little),
        "warp_error": temporal.warp_error(little),
        "motion_amount": temporal.motion_amount(little, fps),
        "appearance_drift": temporal.appearance_drift(little),
    }
    return found if clip is None else found | clip_metrics(span, clip, len(frames) / fps)


def _means(table: Table, config: EvaluateConfig) -> dict[str, Estimate]:
    generator = np.random.default_rng(config.seed)
    return {name: mean_estimate(own, generator, confidence=config.confidence) for name, own in table.items()}


def _distances(
    sets: list[Float[np.ndarray, "n d"]], config: EvaluateConfig, skips: Skips
) -> dict[str, Estimate]:
    if min(len(own) for own in sets) < 2:
        reason = next(iter(skips.reasons.values()), "only one video was given")
        raise DatasetError(f"a distance needs two videos on each side; {reason}")
    generator, both = np.random.default_rng(config.seed), (sets[0], sets[1])
    return {
        name: distance_estimate(distance, both, generator, config.bootstraps, config.confidence)
        for name, distance in (("frechet_distance", frechet_distance), ("kernel_distance", kernel_distance))
    }


def _features(
    spans: list[Span], network: FeatureNetwork, config: EvaluateConfig, skips: Skips, progress: Progress
) -> Float[np.ndarray, "n d"]:
    progress.stage("features", len(spans))
    rows = []
    for span in spans:
        frames = skips.attempt(span, partial(sample, sampling=config.sampling))
        if frames is not None:
            rows.append(network(frames))
        progress.advance(1, span.name)
    return np.array(rows)


def _paired(
    spans: list[Span], references: list[Span], config: EvaluateConfig, skips: Skips
) -> dict[str, Estimate]:
    """PSNR and SSIM over pairs of equal name, at the sampled frames and size."""
    by_name = {span.name: span for span in references}
    matched = [span for span in spans if span.name in by_name]
    if not matched:
        raise DatasetError(
            f"no video shares its name with a reference (for example {spans[0].name} and "
            f"{references[0].name}); name each pair alike, or leave paired off"
        )
    network = load_lpips(config.lpips) if config.lpips else None
    rows = [
        skips.attempt(span, partial(pair_metrics, other=by_name[span.name], config=config, network=network))
        for span in matched
    ]
    found = [row for row in rows if row is not None]
    if not found:
        raise DatasetError(f"no pair can be judged; the first: {next(iter(skips.reasons.values()))}")
    return _means({name: np.array([row[name] for row in found]) for name in found[0]}, config)


def pair_metrics(span: Span, other: Span, config: EvaluateConfig, network: Lpips | None) -> dict[str, float]:
    """Frames are matched one to one from the start, and the reference is brought to the video's size."""
    frames, _ = native(span, config.most_frames)
    reference, _ = native(other, config.most_frames)
    both = min(len(frames), len(reference))
    height, width = frames.shape[1:3]
    frames, reference = frames[:both], cover_crop(reference[:both], Size(height=height, width=width))
    metrics = {
        "psnr": psnr(frames, reference),
        "ssim": ssim(frames, reference),
        "first_frame_fidelity": temporal.first_frame_fidelity(frames, reference[0]),
    }
    return metrics if network is None else metrics | {"lpips": lpips(network, frames, reference)}
