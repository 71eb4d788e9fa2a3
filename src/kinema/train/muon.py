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

    The update of a matrix is made from all of it. Each of the ranks that hold the shards collects its part of
    the matrices, orthogonalises them, and hands their rows back: two exchanges a step, as much memory as the
    shards take, and no rank does the work of another. PyTorch's own iteration is always bfloat16, which a
    CPU gains nothing from and which makes two runs with the same gradients up to rounding drift apart.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update; `closure` is not used."""
        del closure
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            updates = [self._momentum(parameter, group) for parameter in parameters]
            sharded = {p: m for p, m in enumerate(parameters) if isinstance(m, DTensor)}
            for place in set(range(len(parameters))) - set(sharded):
                updates[place] = orthogonal(updates[place], group)
            if sharded:
                rows = _orthogonal_rows(list(sharded.values()), [updates[place] for place in sharded], group)
                for place, update in zip(sharded, rows, strict=True):
                    updates[place] = update
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


def _orthogonal_rows(
    parameters: list[DTensor], rows: list[Tensor], group: dict[str, Any]
) -> list[Float[Tensor, "r n"]]:
    """Of sharded matrices, given the rows that this rank holds: the same rows of their orthogonal forms."""
    mesh = parameters[0].device_mesh
    assert all(parameter.placements[-1] == Shard(0) for parameter in parameters)
    ranks, rank, shards = mesh.size(-1), mesh.get_local_rank(-1), mesh.get_group(mesh.ndim - 1)
    owners = _owners(parameters, ranks)
    order = sorted(range(len(parameters)), key=owners.__getitem__)
    shares = [_shares(parameter, ranks) for parameter in parameters]
    owned = [place for place in order if owners[place] == rank]
    sent = torch.cat([rows[place].flatten() for place in order])
    mine = [sum(shares[p][rank] for p in order if owners[p] == owner) for owner in range(ranks)]
    theirs = [sum(shares[place][other] for place in owned) for other in range(ranks)]
    received = sent.new_empty(sum(theirs))
    dist.all_to_all_single(received, sent, theirs, mine, group=shards)
    parts = iter(torch.split(received, [shares[place][other] for other in range(ranks) for place in owned]))
    collected = [[next(parts) for _ in owned] for _ in range(ranks)]
    found = [
        orthogonal(torch.cat(matrix).view(parameters[place].shape), group).to(sent.dtype).flatten()
        for place, matrix in zip(owned, zip(*collected, strict=True), strict=True)
    ]
    returned = [torch.split(matrix, shares[place]) for place, matrix in zip(owned, found, strict=True)]
    answer = [matrix[other] for other in range(ranks) for matrix in returned]
    back = torch.empty_like(sent)
    dist.all_to_all_single(back, torch.cat([*answer, sent[:0]]), mine, theirs, group=shards)
    pieces = torch.split(back, [shares[place][rank] for place in order])
    mended = {place: piece.view(rows[place].shape) for place, piece in zip(order, pieces, strict=True)}
    return [mended[place] for place in range(len(rows))]


def _owners(matrices: list[DTensor], ranks: int) -> list[int]:
    """Which rank orthogonalises each: the longest work first, to whom has least so far."""
    work = [matrix.numel() * min(matrix.shape) for matrix in matrices]
    load, owners = [0] * ranks, [0] * len(matrices)
    for place in sorted(range(len(matrices)), key=lambda place: -work[place]):
        owners[place] = load.index(min(load))
        load[owners[place]] += work[place]
    return owners


def _shares(matrix: DTensor, ranks: int) -> list[int]:
    """Numbers that each rank holds of a matrix."""
    rows, columns = matrix.shape
    each = -(-rows // ranks)
    return [max(0, min(each, rows - rank * each)) * columns for rank in range(ranks)]
