"""What a run remembers: trained weights, their averages, the optimizers, the step."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from kinema.train.checkpoints import Checkpoint, fill_from
from kinema.train.guard import SpikeConfig, SpikeGuard
from kinema.train.optim import OptimConfig, Optimizers, update_average
from kinema.train.parallel import World, share

_AVERAGE = "ema_"


@dataclass
class TrainState:
    """`updates` counts the steps of earlier runs and stages too: the average's length depends on it.

    `trained` and `average` hold the same parts by name (network, and the text encoder when it learns).
    `horizons` are further averages of the same weights, by decay: `part.key` to tensor. `images` counts
    those of the `samples` that were single frames, `sources` those of each group of sources.
    """

    step: int
    trained: nn.ModuleDict
    average: nn.ModuleDict
    optimizers: Optimizers
    guard: SpikeGuard
    horizons: dict[float, dict[str, Tensor]] = field(default_factory=dict)
    samples: int = 0
    images: int = 0
    sources: Counter[str] = field(default_factory=Counter)
    updates: int = 0

    @classmethod
    def fresh(  # noqa: PLR0913 - one argument for each thing a state is made of
        cls,
        parts: Mapping[str, nn.Module],
        optim: OptimConfig,
        world: World,
        *,
        precision: Literal["fp32", "bf16"] = "fp32",
        spikes: SpikeConfig | None = None,
        horizons: Sequence[float] = (),
    ) -> Self:
        """Step 0; the averages start as copies. The parts are sharded in place when the world asks for it."""
        trained = nn.ModuleDict(dict(parts))
        average = copy.deepcopy(trained).requires_grad_(False)
        for modules in (trained, average):
            for module in modules.values():
                share(module, world, precision)
        return cls(
            step=0,
            trained=trained,
            average=average,
            optimizers=Optimizers(optim, trained),
            guard=SpikeGuard(spikes or SpikeConfig()),
            horizons={
                decay: {name: value.detach().clone() for name, value in average.named_parameters()}
                for decay in horizons
            },
        )

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Tensors for a checkpoint; on many ranks, this one's shards of them."""
        groups = {name: part.state_dict() for name, part in self.trained.items()}
        groups |= {average_group(name): part.state_dict() for name, part in self.average.items()}
        groups |= {horizon_group(decay): dict(tensors) for decay, tensors in self.horizons.items()}
        return groups | {"optimizer": self.optimizers.tensors()}

    def numbers(self) -> dict[str, Any]:
        """The rest of a checkpoint."""
        counts = {"samples": self.samples, "images": self.images, "updates": self.updates}
        return counts | {"sources": dict(self.sources), "guard": self.guard.numbers()}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint's tensors in; another network shape is a `CheckpointError` naming the key."""
        self.carry_on(checkpoint)
        self.step = checkpoint.step
        self.samples = int(checkpoint.state.get("samples", 0))
        self.images = int(checkpoint.state.get("images", 0))
        self.sources = Counter(checkpoint.state.get("sources", {}))
        self.guard.restore(checkpoint.state.get("guard", {}))

    def retune(self, optim: OptimConfig) -> None:
        """Go on with the same optimizer state at the rates of `optim`."""
        before = self.optimizers.tensors()
        self.optimizers = Optimizers(optim, self.trained)
        self.optimizers.load(before, "the optimizer so far")

    def carry_on(self, checkpoint: Checkpoint) -> None:
        """Take over weights, averages and optimizer state of another run, from step 0.

        An average that the other run did not have starts as its first one.
        """
        for name, part in self.trained.items():
            fill_from(part, checkpoint, name)
        for name, part in self.average.items():
            fill_from(part, checkpoint, average_group(name))
        for decay, tensors in self.horizons.items():
            stored = {f"{horizon_group(decay)}/{key}": value for key, value in tensors.items()}
            if stored.keys() <= checkpoint.tensors.keys():
                checkpoint.fill(stored)
            else:
                torch._foreach_copy_(list(tensors.values()), [*self.average.parameters()])
        source = f"{checkpoint.folder}/optimizer"
        room = self.optimizers.empty(checkpoint.stored("optimizer"), source)
        checkpoint.fill({f"optimizer/{key}": tensor for key, tensor in room.items()})
        self.optimizers.load(room, source)
        self.updates = int(checkpoint.state.get("updates", checkpoint.step))

    def update_averages(self, decay: float) -> None:
        """Move every average towards the weights."""
        update_average(self.average.parameters(), self.trained.parameters(), decay, self.updates)
        for horizon, tensors in self.horizons.items():
            update_average(tensors.values(), self.trained.parameters(), horizon, self.updates)


def average_group(part: str) -> str:
    """What the average of a part is called in a checkpoint."""
    return _AVERAGE + part


def horizon_decay(group: str) -> float | None:
    """The decay of the average that a group of a checkpoint holds; None for another group."""
    prefix = f"{_AVERAGE}at_"
    return float(group.removeprefix(prefix)) if group.startswith(prefix) else None


def horizon_group(decay: float) -> str:
    """What the average of this decay is called in a checkpoint."""
    return f"{_AVERAGE}at_{decay}"
