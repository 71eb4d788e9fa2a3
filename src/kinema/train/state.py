"""What a run remembers: trained weights, their average, the optimizers, the step."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, nn

from kinema.checkpoint import Checkpoint, fill_module
from kinema.errors import CheckpointError
from kinema.train.optim import OptimConfig, Optimizers

_AVERAGE = "ema_"


@dataclass
class TrainState:
    """`updates` counts the steps of earlier runs and stages too: the average's length depends on it.

    `trained` and `average` hold the same parts by name (network, and the text encoder when it learns)."""

    step: int
    trained: nn.ModuleDict
    average: nn.ModuleDict
    optimizers: Optimizers
    samples: int = 0
    updates: int = 0

    @classmethod
    def fresh(cls, parts: dict[str, nn.Module], optim: OptimConfig) -> Self:
        """Step 0; the average starts as a copy."""
        trained = nn.ModuleDict(parts)
        average = copy.deepcopy(trained).requires_grad_(False)
        return cls(step=0, trained=trained, average=average, optimizers=Optimizers(optim, trained))

    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Tensors for a checkpoint, a file each."""
        groups = {name: part.state_dict() for name, part in self.trained.items()}
        groups |= {_AVERAGE + name: part.state_dict() for name, part in self.average.items()}
        return groups | {"optimizer": self.optimizers.tensors()}

    def numbers(self) -> dict[str, Any]:
        """The rest of a checkpoint."""
        return {"samples": self.samples, "updates": self.updates}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint's tensors in; another network shape is a `CheckpointError` naming the key."""
        self.carry_on(checkpoint)
        self.step = checkpoint.step
        self.samples = int(checkpoint.state.get("samples", 0))

    def retune(self, optim: OptimConfig) -> None:
        """Go on with the same optimizer state at the rates of `optim`."""
        before = self.optimizers.tensors()
        self.optimizers = Optimizers(optim, self.trained)
        self.optimizers.load(before, "the optimizer so far")

    def carry_on(self, checkpoint: Checkpoint) -> None:
        """Take over weights, average and optimizer state of another run, from step 0."""
        source = f"checkpoint step-{checkpoint.step:08d}"
        for prefix, parts in (("", self.trained), (_AVERAGE, self.average)):
            for name, part in parts.items():
                if prefix + name not in checkpoint.groups:
                    raise CheckpointError(f"{source} has no {prefix + name}")
                fill_module(part, checkpoint.groups[prefix + name], f"{source}/{prefix + name}")
        self.optimizers.load(checkpoint.groups.get("optimizer", {}), f"{source}/optimizer")
        self.updates = int(checkpoint.state.get("updates", checkpoint.step))
