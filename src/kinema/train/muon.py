"""Muon whose matrices may be sharded: their owners take turns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard

from kinema.nn.products import mm
from kinema.train.parallel import local


class Muon(torch.optim.Muon):
    """`torch.optim.Muon`, for matrices sharded by rows as well, and in float32 on a CPU.

    The update of a matrix is made from all of it. Of every P sharded matrices, each of the P ranks that
    hold their shards collects one, orthogonalises it, and hands its rows back: two exchanges, and no rank
    does the work of another. PyTorch's own iteration is always bfloat16, which a CPU gains nothing from and
    which makes two runs with the same gradients up to rounding drift apart.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update; `closure` is not used."""
        del closure
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            updates = [self._momentum(parameter, group) for parameter in parameters]
            sharded = [place for place, parameter in enumerate(parameters) if isinstance(parameter, DTensor)]
            for place in set(range(len(parameters))) - set(sharded):
                updates[place] = orthogonal(updates[place], group)
            # Matrices of one size take equally long: nobody waits.
            sharded.sort(key=lambda place: -parameters[place].numel())
            _take_turns([parameters[place] for place in sharded], updates, sharded, group)
            for parameter, update in zip(parameters, updates, strict=True):
                rows, columns = parameter.shape
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                values = local(parameter)
                values.mul_(1 - group["lr"] * group["weight_decay"])
                values.add_(update.to(values.dtype), alpha=-rate)

    def _momentum(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """This rank's rows of the matrix to orthogonalise."""
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        gradient, buffer = local(parameter.grad), local(state["momentum_buffer"])  # type: ignore[arg-type]
        buffer.lerp_(gradient, 1 - group["momentum"])
        return gradient.lerp(buffer, group["momentum"]) if group["nesterov"] else buffer.clone()


def orthogonal(matrix: Float[Tensor, "m n"], group: dict[str, Any]) -> Float[Tensor, "m n"]:
    """The nearest orthogonal matrix, roughly: Newton-Schulz iterations (Keller Jordan's quintic)."""
    a, b, c = group["ns_coefficients"]
    tall = matrix.shape[0] > matrix.shape[1]
    dtype = torch.bfloat16 if matrix.device.type == "cuda" else torch.float32
    found = (matrix.T if tall else matrix).to(dtype)
    found = found / found.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = mm(found, found.T)
        found = mm(gram.mul(b).add_(mm(gram, gram), alpha=c), found).add_(found, alpha=a)
    return found.T if tall else found


def _take_turns(
    parameters: list[DTensor], updates: list[Tensor], places: list[int], group: dict[str, Any]
) -> None:
    """Replace the updates at `places`, rows of sharded matrices, by the rows of their orthogonal forms."""
    if not parameters:
        return
    mesh = parameters[0].device_mesh
    assert all(parameter.placements[-1] == Shard(0) for parameter in parameters)
    ranks, rank, shards = mesh.size(-1), mesh.get_local_rank(-1), mesh.get_group(mesh.ndim - 1)
    for begin in range(0, len(parameters), ranks):
        turn = places[begin : begin + ranks]
        sent = torch.cat([updates[place].flatten() for place in turn])
        mine = [updates[place].numel() for place in turn] + [0] * (ranks - len(turn))
        owned = parameters[begin + rank] if rank < len(turn) else None
        theirs = _shares(owned, ranks)
        received = sent.new_empty(sum(theirs))
        dist.all_to_all_single(received, sent, theirs, mine, group=shards)
        if owned is not None:
            received = orthogonal(received.view(owned.shape), group).to(sent.dtype).flatten()
        back = torch.empty_like(sent)
        dist.all_to_all_single(back, received.contiguous(), mine, theirs, group=shards)
        for place, rows in zip(turn, torch.split(back, mine[: len(turn)]), strict=True):
            updates[place] = rows.view(updates[place].shape)


def _shares(matrix: DTensor | None, ranks: int) -> list[int]:
    """Numbers that each rank holds of a matrix."""
    if matrix is None:
        return [0] * ranks
    rows, columns = matrix.shape
    each = -(-rows // ranks)
    return [max(0, min(each, rows - rank * each)) * columns for rank in range(ranks)]
