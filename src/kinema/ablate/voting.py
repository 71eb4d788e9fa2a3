"""The arena of an ablation, and a voter made of metrics for when no people are at hand."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from kinema.encoders.clip import Clip as ClipModel
from kinema.encoders.clip import ClipConfig
from kinema.evaluate.arena import Arena, ArenaVideo
from kinema.evaluate.features import FeatureNetwork, build_features
from kinema.evaluate.intentions import clip_metrics
from kinema.evaluate.metrics import EvaluateConfig
from kinema.evaluate.sampling import Span, find_spans, sample
from kinema.evaluate.votes import Vote

SIMULATED = "simulated:metrics"
SHRINKAGE = 0.1
TIES = 0.5
Scores = dict[str, dict[str, float]]
"""Axis to video id to a score, higher is better."""


@dataclass(frozen=True, kw_only=True)
class Voters:
    """How many simulated voters answer each question, and their seed."""

    count: int
    seed: int


def is_simulated(vote: Vote) -> bool:
    """Whether no person gave the vote."""
    return vote.voter.startswith("simulated:")


def metric_scores(arena: Arena, references: Path, config: EvaluateConfig) -> Scores:
    """Quality: nearness to the references in features (minus the squared Mahalanobis distance, per feature).

    Prompt following: CLIP's text match where weights are given; else nearness in features to the reference
    whose caption is the prompt, and no such axis where a prompt is no reference's caption.
    """
    network = build_features(config.features)
    real = find_spans(references)
    known = np.array([network(sample(span, config.sampling)) for span in real])
    white = Whitened(known)
    made = {video.video_id: _whitened(network, white, arena.path(video), config) for video in arena.videos}
    scores: Scores = {
        "quality": {name: -float((row**2).mean()) for name, row in made.items()},
    }
    if config.clip:
        clip = ClipModel(ClipConfig(source=config.clip))
        scores["prompt_following"] = {
            video.video_id: clip_metrics(_span(arena, video), clip, _seconds(config))["text_match"]
            for video in arena.videos
        }
        return scores
    asked = {span.prompt: white(row) for span, row in zip(real, known, strict=True)}
    if all(video.prompt in asked for video in arena.videos):
        scores["prompt_following"] = {
            video.video_id: -float(((made[video.video_id] - asked[video.prompt]) ** 2).mean())
            for video in arena.videos
        }
    return scores


class Whitened:
    """Features less the mean of `known`, in directions and units in which those have covariance 1."""

    def __init__(self, known: Float[np.ndarray, "n d"]) -> None:
        self.mean = known.mean(axis=0)
        covariance = np.cov(known.T)
        even = np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        values, vectors = np.linalg.eigh((1 - SHRINKAGE) * covariance + SHRINKAGE * even)
        self.basis = vectors / np.sqrt(np.maximum(values, 1e-12))

    def __call__(self, features: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        return np.asarray((features - self.mean) @ self.basis)


def _whitened(
    network: FeatureNetwork, white: Whitened, path: Path, config: EvaluateConfig
) -> Float[np.ndarray, " d"]:
    return white(network(sample(Span(path=path, name=path.stem), config.sampling)))


def _span(arena: Arena, video: ArenaVideo) -> Span:
    return Span(path=arena.path(video), name=video.video_id, prompt=video.prompt)


def _seconds(config: EvaluateConfig) -> float:
    return config.sampling.frames / config.sampling.fps


def simulate(arena: Arena, scores: Scores, voters: Voters) -> int:
    """Store the votes of the simulated voters; those that are there already are not given again.

    A voter prefers by Davidson's model, with the scores of an axis in units of their spread as strengths. The
    order in which two videos are shown is drawn as for people. Returns how many votes are new.
    """
    store, new = arena.votes, 0
    for axis, by_video in scores.items():
        spread = float(np.std(list(by_video.values()))) or 1.0
        for question in arena.questions():
            for number in range(voters.count):
                told = f"{voters.seed}:{axis}:{number}:{question.first.video_id}:{question.second.video_id}"
                digest = hashlib.sha256(told.encode()).hexdigest()
                gap = (by_video[question.first.video_id] - by_video[question.second.video_id]) / spread
                generator = np.random.default_rng(int(digest[:15], 16))
                new += store.append(
                    Vote(
                        vote_id=digest[:24],
                        model_a=question.first.model,
                        model_b=question.second.model,
                        outcome=answer(gap, generator),
                        axis=axis,
                        voter=f"{SIMULATED}-{number}",
                        prompt=question.prompt,
                        video_a=question.first.sha256,
                        video_b=question.second.sha256,
                        shown_first="a" if generator.random() < 0.5 else "b",
                    )
                )
    return new


def answer(gap: float, generator: np.random.Generator) -> str:
    """One draw of Davidson's model with the tie parameter `TIES`."""
    weights = [*np.exp([gap / 2, -gap / 2]).tolist(), TIES]
    return str(generator.choice(["a", "b", "tie"], p=np.array(weights) / sum(weights)))
