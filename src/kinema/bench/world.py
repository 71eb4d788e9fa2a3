"""The exam of the embedded model: what it makes of prompts, judged by the checker, and the checker itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

from kinema.bench.figures import Figure, report
from kinema.evaluate.reference_metrics import psnr
from kinema.location import embedded_model
from kinema.model import Model, load_model
from kinema.world.checker import check
from kinema.world.draw import WorldConfig
from kinema.world.exam import (
    ExamConfig,
    Paper,
    camera_share,
    drawn,
    extended,
    from_text,
    seconds_a_clip,
    share,
    with_frames,
)
from kinema.world.render import render

ALONE = WorldConfig(objects=(1, 0, 0), camera_share=0)


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Videos of each kind: 256 from text in all, and those with given frames."""

    seen: int = 96
    held_out: int = 64
    two: int = 48
    camera: int = 48
    image: int = 32
    interpolation: int = 16
    extension: int = 16
    truth: int = 96


def run(
    model: Path | None = None, counts: Counts | None = None, config: ExamConfig | None = None
) -> dict[str, Any]:
    """Every figure of the model card; the embedded model without `model`."""
    taken, counts, config = load_model(model or embedded_model()), counts or Counts(), config or ExamConfig()
    figures = [
        *_checker(counts.truth),
        *_from_text(taken, counts, config),
        *_with_frames(taken, counts, config),
        _figure("seconds a clip", seconds_a_clip(taken, config), 6.0, "s", "lower"),
    ]
    return report("world", figures)


def first_frame_gain(papers: Sequence[Paper]) -> tuple[float, float]:
    """Mean PSNR of frame 1 to the rendered one, and that of frame 0 in its place."""
    truths = [render(paper.scene) for paper in papers]
    made = [psnr(paper.frames[1:2], truth[1:2]) for paper, truth in zip(papers, truths, strict=True)]
    copied = [psnr(truth[:1], truth[1:2]) for truth in truths]
    return float(np.mean(made)), float(np.mean(copied))


def interpolation_gain(papers: Sequence[Paper], given: Sequence[int]) -> tuple[float, float]:
    """Mean PSNR of the frames between given ones, and that of blending their neighbours."""
    made, blended = [], []
    for paper in papers:
        truth = render(paper.scene)
        for before, after in pairwise(given):
            for frame in range(before + 1, after):
                weight = (frame - before) / (after - before)
                mixed = np.round((1 - weight) * truth[before] + weight * truth[after]).astype(np.uint8)
                made.append(psnr(paper.frames[frame][None], truth[frame][None]))
                blended.append(psnr(mixed[None], truth[frame][None]))
    return float(np.mean(made)), float(np.mean(blended))


def _figure(
    name: str,
    value: float,
    target: float | None,
    unit: str = "share",
    better: Literal["higher", "lower"] = "higher",
) -> Figure:
    return Figure(name=name, value=value, unit=unit, target=target, bounds="value", better=better)


def _checker(count: int) -> list[Figure]:
    asked = drawn(replace(ALONE, held_out=None), count, seed=1)
    clips = [render(scene) for scene, _ in asked]
    right = [Paper(scene, caption, clip) for (scene, caption), clip in zip(asked, clips, strict=True)]
    others = clips[1:] + clips[:1]
    wrong = [
        all(v.obeyed for v in check(scene, clip)) for (scene, _), clip in zip(asked, others, strict=True)
    ]
    return [
        _figure("checker: rendered truth", share(right), 0.97),
        _figure("checker: shuffled prompts", float(np.mean(wrong)), 0.05, better="lower"),
    ]


def _from_text(model: Model, counts: Counts, config: ExamConfig) -> list[Figure]:
    figures = []
    for name, count, held_out in (("seen", counts.seen, False), ("held out", counts.held_out, True)):
        papers = from_text(model, drawn(replace(ALONE, held_out=held_out), count, seed=2), config)
        targets = {"colour": 0.95, "shape": 0.85, "motion": 0.85, "obeyed": 0.70}
        figures += [_figure(f"{name}: {part}", share(papers, part), bar) for part, bar in targets.items()]
    pairs = from_text(model, drawn(replace(ALONE, objects=(0, 1, 0)), counts.two, seed=3), config)
    figures += [
        _figure(f"two objects: {part}", share(pairs, part), None) for part in ("colour", "shape", "motion")
    ]
    moving = from_text(model, drawn(replace(ALONE, camera_share=1), counts.camera, seed=4), config)
    return [
        *figures,
        _figure("two objects: obeyed", share(pairs), 0.40),
        _figure("camera", camera_share(moving), 0.85),
    ]


def _with_frames(model: Model, counts: Counts, config: ExamConfig) -> list[Figure]:
    animated = with_frames(model, drawn(ALONE, counts.image, seed=5), [0], config)
    made, copied = first_frame_gain(animated)
    given = list(range(0, ALONE.frames, 3))
    filled = with_frames(model, drawn(ALONE, counts.interpolation, seed=6), given, config)
    between, blended = interpolation_gain(filled, given)
    begun = from_text(model, drawn(ALONE, counts.extension, seed=7), config)
    return [
        _figure("image to video: obeyed", share(animated), 0.75),
        _against("image to video: frame 1", made, "frame 0 copied", copied),
        _against("interpolation", between, "linear blending", blended),
        _figure("extension x3: obeyed", share(extended(model, begun, 3, config)), 0.70),
    ]


def _against(name: str, value: float, peer: str, peer_value: float) -> Figure:
    return Figure(name=name, value=value, unit="dB", peer=peer, peer_value=peer_value, target=1.0)
