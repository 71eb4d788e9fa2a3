"""Which frames of a training clip are given: the tasks that one network learns together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum

import torch
from jaxtyping import Bool
from torch import Tensor


class MaskStrategy(StrEnum):
    """Which frames are given; a run is of random length, at most a quarter of the clip."""

    NONE = "none"
    FIRST = "first"
    FIRST_RUN = "first_run"
    LAST = "last"
    LAST_RUN = "last_run"
    ENDS = "ends"
    END_RUNS = "end_runs"
    SINGLE = "single"
    RUN = "run"
    SCATTERED = "scattered"
    INTERPOLATION = "interpolation"


@dataclass(frozen=True, kw_only=True)
class MaskConfig:
    """The probability of each strategy; what is left over to 1 goes to `none`."""

    first: float = 0.0
    first_run: float = 0.0
    last: float = 0.0
    last_run: float = 0.0
    ends: float = 0.0
    end_runs: float = 0.0
    single: float = 0.0
    run: float = 0.0
    scattered: float = 0.0
    interpolation: float = 0.0

    def __post_init__(self) -> None:
        values = asdict(self)
        for name, value in values.items():
            if not 0 <= value <= 1:
                raise ValueError(f"the probability of {name} must be in [0, 1], got {value}")
        if sum(values.values()) > 1 + 1e-6:
            raise ValueError(f"mask probabilities must sum to at most 1, got {sum(values.values()):g}")

    @classmethod
    def published(cls) -> MaskConfig:
        """The mixture of the Open-Sora 1.1 stages."""
        return cls(
            run=0.025,
            first_run=0.025,
            last_run=0.025,
            end_runs=0.05,
            single=0.025,
            first=0.025,
            last=0.025,
            ends=0.05,
        )


def draw_denoise_mask(config: MaskConfig, frames: int, generator: torch.Generator) -> Bool[Tensor, " t"]:
    """True = to be generated. At least one frame always is; a single frame is an image, with none given."""
    strategies = [MaskStrategy(name) for name in asdict(config)]
    edges = torch.tensor(list(asdict(config).values()), dtype=torch.float64).cumsum(0)
    place = int(torch.searchsorted(edges, torch.rand((), generator=generator).double(), right=True))
    strategy = strategies[place] if place < len(strategies) else MaskStrategy.NONE
    return denoise_mask(strategy, frames, generator)


def draw_denoise_masks(
    config: MaskConfig, frames: int, generators: list[torch.Generator]
) -> Bool[Tensor, "b t"]:
    """One mask for each element of a batch, each from the element's own generator."""
    return torch.stack([draw_denoise_mask(config, frames, generator) for generator in generators])


def denoise_mask(strategy: MaskStrategy, frames: int, generator: torch.Generator) -> Bool[Tensor, " t"]:
    """The mask of one clip under one strategy."""
    mask = torch.ones(frames, dtype=torch.bool)
    if frames > 1:
        mask[given_frames(strategy, frames, generator)] = False
    if not mask.any():
        mask[-1] = True
    return mask


def given_frames(strategy: MaskStrategy, frames: int, generator: torch.Generator) -> list[int]:
    """The given frames' indices, before the rule that one frame must remain to be generated."""
    run = _integer(1, max(1, frames // 4), generator)
    match strategy:
        case MaskStrategy.NONE:
            return []
        case MaskStrategy.FIRST | MaskStrategy.LAST | MaskStrategy.ENDS:
            count = 1
        case MaskStrategy.FIRST_RUN | MaskStrategy.LAST_RUN | MaskStrategy.END_RUNS:
            count = run
        case _:
            return _inner_frames(strategy, frames, run, generator)
    head = [] if strategy in (MaskStrategy.LAST, MaskStrategy.LAST_RUN) else list(range(count))
    tail = [] if strategy in (MaskStrategy.FIRST, MaskStrategy.FIRST_RUN) else range(frames - count, frames)
    return [*head, *tail]


def _inner_frames(strategy: MaskStrategy, frames: int, run: int, generator: torch.Generator) -> list[int]:
    match strategy:
        case MaskStrategy.SINGLE:
            return [_integer(0, frames - 1, generator)]
        case MaskStrategy.RUN:
            start = _integer(0, frames - run, generator)
            return list(range(start, start + run))
        case MaskStrategy.SCATTERED:
            count = _integer(1, max(1, frames // 2), generator)
            return torch.randperm(frames, generator=generator)[:count].tolist()
        case _:
            stride = _integer(2, max(2, frames // 2), generator)
            return list(range(0, frames, stride))


def _integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform in low..high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
