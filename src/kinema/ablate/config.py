"""What an ablation compares, and how each of its models is trained, sampled and judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kinema.curate.filters import Bounds, FilterConfig
from kinema.evaluate.metrics import EvaluateConfig
from kinema.train.config import TrainConfig

Annotation = Literal["motion", "aesthetics", "text_match", "text_area"]
Study = Literal["motion", "aesthetics", "text_match", "text_area", "captions", "curation", "pretraining"]

COLUMNS: dict[str, tuple[str, bool]] = {
    "motion": ("motion_score", True),
    "aesthetics": ("aesthetic_score", True),
    "text_match": ("text_match", True),
    "text_area": ("text_area", False),
}
"""The column of an annotation, and whether low values are the bad ones."""


def _structural() -> FilterConfig:
    return FilterConfig(motion_score=Bounds(), text_area=Bounds(), black_frames=Bounds())


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """The studies of Stable Video Diffusion's third section, on one dataset.

    An annotation's study trains a model for each of `fractions` of the clips dropped, the worst first; 0 is
    one model for all studies. `captions` compares the kinds of captions, `curation` the clips that `curated`
    keeps with all of them, `pretraining` `image_steps` steps on single frames before the video with none.
    What takes part at all passes `filters`. A share `held_out` of those clips trains no model: they give
    `prompt_count` prompts (unless `prompts` are given) and are what distances are measured to (unless
    `references` is given).

    `voter` "simulated" answers from the automatic metrics, "people" waits for people. `devices` are "cpu" or
    "cuda:N", one model at a time on each; a name may stand several times. None: all GPUs, or the CPU once.
    """

    studies: tuple[Study, ...] = ("motion", "aesthetics", "text_match", "text_area", "captions")
    fractions: tuple[float, ...] = (0.0, 0.125, 0.25, 0.5)
    filters: FilterConfig = field(default_factory=_structural)
    curated: FilterConfig = field(default_factory=FilterConfig)
    image_steps: int = 200
    held_out: float = 0.2
    references: Path | None = None
    prompts: tuple[str, ...] = ()
    prompt_count: int = 16
    train: TrainConfig = field(default_factory=TrainConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    voter: Literal["people", "simulated"] = "people"
    simulated_voters: int = 3
    resamples: int = 1000
    devices: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.studies or len(set(self.studies)) < len(self.studies):
            raise ValueError(f"studies must name each study once, got {', '.join(self.studies) or 'none'}")
        if not all(0 <= fraction < 1 for fraction in self.fractions):
            raise ValueError(f"fractions must be in [0, 1), got {self.fractions}")
        if not any(self.fractions) or len(set(self.fractions)) < len(self.fractions):
            raise ValueError(f"fractions must hold one above 0, each once, got {self.fractions}")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must be in (0, 1), got {self.held_out}")
        for name in ("prompt_count", "simulated_voters", "image_steps", "resamples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if any(not _is_device(device) for device in self.devices):
            raise ValueError(f'devices must be "cpu" or "cuda:N", got {", ".join(self.devices)}')
        if "pretraining" in self.studies and self.train.stage:
            raise ValueError("the study pretraining adds a stage of its own: leave train.stage out")


def _is_device(name: str) -> bool:
    return name == "cpu" or (name.startswith("cuda:") and name[5:].isdigit())
