"""Sequence parallelism: the tokens of one clip shared among the ranks of a group.

Between blocks a rank holds some of the frames (b t/P s d), whole. Attention over time needs all frames of a
place, so before it an all-to-all trades frames for places (b t s/P d), and another one trades back: two
exchanges of the tokens a block, in place of the four that sharding the heads takes. Frames and places that
P does not divide are padded; padding never reaches another token.
"""
# ruff: noqa: ANN401 (an autograd function has an untyped context)

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812 - its usual name
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class SequenceGroup:
    """The ranks that share a clip."""

    group: dist.ProcessGroup
    rank: int
    size: int

    def own(self, values: Tensor) -> Tensor:
        """This rank's part of axis 1 (frames); an axis of one entry that serves all frames stays."""
        padded = _pad(values, 1, self.size)
        return padded.chunk(self.size, dim=1)[self.rank]

    def to_places(self, tokens: Float[Tensor, "b t1 s d"], frames: int) -> Float[Tensor, "b t s1 d"]:
        """All `frames` of this rank's places."""
        return _exchange(_pad(tokens, 2, self.size), self, 2, 1)[:, :frames]

    def to_frames(self, tokens: Float[Tensor, "b t s1 d"], places: int) -> Float[Tensor, "b t1 s d"]:
        """All `places` of this rank's frames."""
        return _exchange(_pad(tokens, 1, self.size), self, 1, 2)[:, :, :places]

    def gather(self, values: Float[Tensor, "b t1 s p"], frames: int) -> Float[Tensor, "b t s p"]:
        """The frames of all ranks, on all ranks.

        Every rank then computes the same loss, but takes back the gradient of its own frames only. The
        mean over ranks that data parallelism makes of gradients would divide it by P, hence times P here.
        """
        whole: Tensor = _Gather.apply(values, self)  # type: ignore[no-untyped-call]
        return whole[:, :frames]


def _pad(values: Tensor, axis: int, multiple: int) -> Tensor:
    missing = -values.shape[axis] % multiple
    return F.pad(values, (0, 0) * (values.ndim - 1 - axis) + (0, missing)) if missing else values


def _exchange(tokens: Tensor, group: SequenceGroup, scattered: int, gathered: int) -> Tensor:
    out: Tensor = _Exchange.apply(tokens, group, scattered, gathered)  # type: ignore[no-untyped-call]
    return out


def _all_to_all(tokens: Tensor, group: SequenceGroup, scattered: int, gathered: int) -> Tensor:
    sent = torch.stack(tokens.chunk(group.size, dim=scattered))
    received = torch.empty_like(sent)
    dist.all_to_all_single(received, sent, group=group.group)
    return torch.cat(received.unbind(0), dim=gathered)


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, group: SequenceGroup, scattered: int, gathered: int) -> Tensor:
        ctx.place = group, gathered, scattered
        return _all_to_all(tokens, group, scattered, gathered)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return _all_to_all(grad, *ctx.place), None, None, None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, group: SequenceGroup) -> Tensor:
        ctx.group = group
        parts = values.new_empty(group.size * len(values), *values.shape[1:])
        dist.all_gather_into_tensor(parts, values.contiguous(), group=group.group)
        return torch.cat(parts.chunk(group.size), dim=1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        own = grad.chunk(ctx.group.size, dim=1)[ctx.group.rank]
        return own * ctx.group.size, None
