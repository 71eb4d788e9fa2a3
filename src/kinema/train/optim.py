"""Optimizers, the learning-rate schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from kinema.errors import CheckpointError, ConfigError
from kinema.train.muon import Muon


@dataclass(frozen=True, kw_only=True)
class AdamWConfig:
    """AdamW for everything; weight decay on matrices only."""

    kind: Literal["adamw"] = "adamw"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass(frozen=True, kw_only=True)
class MuonConfig:
    """Muon (momentum, orthogonalised) for the matrices inside blocks, AdamW for the rest."""

    kind: Literal["muon"] = "muon"
    lr: float = 0.02
    momentum: float = 0.95
    adamw: AdamWConfig = AdamWConfig(lr=2e-3)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


@dataclass(frozen=True, kw_only=True)
class AdamW8bitConfig:
    """AdamW whose two moments take a byte each (extra `eight-bit`); in one process only."""

    kind: Literal["adamw-8bit"] = "adamw-8bit"
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be above 0, got {self.lr}")


OptimConfig = AdamWConfig | MuonConfig | AdamW8bitConfig


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Linear warm-up, then constant, or down to `final` (a share of the rate) over the last `decay` share.

    "cosine" and "linear" fall over all steps when `decay` is not given. "wsd" (warm-up, stable, decay) stays
    until the last fifth, and falls as 1 - sqrt there.
    """

    warmup_steps: int = 0
    shape: Literal["constant", "cosine", "linear", "wsd"] = "constant"
    decay: float | None = None
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.warmup_steps < 0:
            raise ValueError(f"warmup_steps must be at least 0, got {self.warmup_steps}")
        if self.decay is not None and not 0 < self.decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {self.decay}")

    def factor(self, step: int, steps: int) -> float:
        """What to multiply every learning rate with at `step` of `steps`."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        decay = self.decay or (0.2 if self.shape == "wsd" else 1.0)
        begin = steps * (1 - decay)
        progress = min(1.0, max(0.0, (step - begin) / max(1.0, steps - begin)))
        match self.shape:
            case "constant":
                return warm
            case "cosine":
                down = 0.5 * (1 + math.cos(math.pi * progress))
            case "linear":
                down = 1 - progress
            case "wsd":
                down = 1 - math.sqrt(progress)
        return warm * (self.final + (1 - self.final) * down)


class Optimizers:
    """One or two torch optimizers over named parameters, with a state that is plain named tensors."""

    def __init__(self, config: OptimConfig, module: nn.Module) -> None:
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
        self._parts = _build(config, module)
        self._packed = isinstance(config, AdamW8bitConfig)
        trained = {p for part in self._parts for group in part.param_groups for p in group["params"]}
        self._owners = {name: p for p, name in self._names.items() if p in trained}
        self._rates = [[group["lr"] for group in part.param_groups] for part in self._parts]

    def step(self, factor: float) -> float:
        """Apply the gradients at `factor` times the configured rates; return the first rate used."""
        first = self._at(factor)
        for part in self._parts:
            part.step()
            part.zero_grad(set_to_none=True)
        return first

    def skip(self, factor: float) -> float:
        """Forget the gradients; return the first rate that they would have been applied at."""
        for part in self._parts:
            part.zero_grad(set_to_none=True)
        return self._at(factor)

    def _at(self, factor: float) -> float:
        for part, rates in zip(self._parts, self._rates, strict=True):
            for group, rate in zip(part.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        first: float = self._parts[0].param_groups[0]["lr"]
        return first

    def tensors(self) -> dict[str, Tensor]:
        """The state as `parameter/entry` tensors, sharded as their parameters are."""
        return {
            f"{self._names[parameter]}/{entry}": torch.as_tensor(value)
            for part in self._parts
            for parameter, state in part.state.items()
            for entry, value in state.items()
        }

    def empty(self, stored: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
        """Room for a state with the names and shapes of `stored`, sharded as this run's parameters are."""
        room = {}
        for key, tensor in stored.items():
            parameter = self._owner(key, tensor, source)
            like = parameter.detach() if tensor.shape == parameter.shape else torch.empty(tensor.shape)
            room[key] = torch.empty_like(like, dtype=tensor.dtype)
        return room

    def load(self, tensors: Mapping[str, Tensor], source: str) -> None:
        """Put back what `tensors` returned; names and shapes must match their parameters."""
        parts = {p: part for part in self._parts for group in part.param_groups for p in group["params"]}
        for key, tensor in tensors.items():
            parameter = self._owner(key, tensor, source)
            device = parameter.device if tensor.ndim else torch.device("cpu")
            value = tensor.to(device, copy=True)
            # Its own counter is a plain number.
            counter = self._packed and not tensor.ndim
            parts[parameter].state[parameter][key.rpartition("/")[2]] = int(value) if counter else value

    def _owner(self, key: str, tensor: Tensor, source: str) -> Tensor:
        parameter = self._owners.get(key.rpartition("/")[0])
        if parameter is None:
            raise CheckpointError(f"{source} holds {key}, which this run does not optimise")
        if tensor.ndim and tensor.shape != parameter.shape and not self._packed:
            raise CheckpointError(
                f"{source}: {key} has shape {list(tensor.shape)}, expected {list(parameter.shape)}"
            )
        return parameter


def _build(config: OptimConfig, module: nn.Module) -> list[torch.optim.Optimizer]:
    matrices = _matrices(module)
    match config:
        case AdamWConfig():
            return [_adamw(config, module.named_parameters(), matrices)]
        case AdamW8bitConfig():
            return [_adamw_8bit(config, module)]
        case MuonConfig():
            hidden = {name: matrix for name, matrix in matrices.items() if _inside_block(name)}
            rest = [(name, p) for name, p in module.named_parameters() if name not in hidden]
            parts = list[torch.optim.Optimizer]()
            if hidden:
                parts.append(
                    Muon(
                        hidden.values(),
                        lr=config.lr,
                        momentum=config.momentum,
                        weight_decay=config.weight_decay,
                    )
                )
            if any(parameter.requires_grad for _, parameter in rest):
                parts.append(_adamw(config.adamw, rest, matrices))
            return parts


def require_eight_bit() -> None:
    """Raise `ConfigError` when the extra is not installed."""
    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            'optim.kind = "adamw-8bit" needs the extra eight-bit: pip install "kinema[eight-bit]"'
        )


def _adamw_8bit(config: AdamW8bitConfig, module: nn.Module) -> torch.optim.Optimizer:
    require_eight_bit()
    from bitsandbytes import optim as eight_bit

    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if any(isinstance(parameter, DTensor) for parameter in trained):
        raise ConfigError('optim.kind = "adamw-8bit" is for one process; choose adamw or muon for many')
    build: Any = getattr(eight_bit, "AdamW8bit")  # noqa: B009 - its types do not show it
    made: torch.optim.Optimizer = build(
        trained, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay
    )
    return made


def _adamw(
    config: AdamWConfig, named: Iterable[tuple[str, nn.Parameter]], matrices: Mapping[str, Tensor]
) -> torch.optim.Optimizer:
    trained = [(name, parameter) for name, parameter in named if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in trained if name in matrices], "weight_decay": config.weight_decay},
        {"params": [p for name, p in trained if name not in matrices], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True
    )


def _matrices(module: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of linear layers; tables of vectors are two-dimensional too, but no matrices."""
    linear = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    return {f"{name}.weight": part.get_parameter("weight") for name, part in linear.items()}


def _inside_block(name: str) -> bool:
    """Of a transformer or of a level of the video UNet."""
    return any(mark in name for mark in (".blocks.", ".layers.", "_blocks.", ".mid_block."))


@torch.no_grad()
def update_average(average: Iterable[Tensor], now: Iterable[Tensor], decay: float, step: int) -> None:
    """Exponential moving average; shorter at first, so that a short run does not keep its initial weights."""
    torch._foreach_lerp_(list(average), list(now), 1 - min(decay, (1 + step) / (10 + step)))
