"""The processes of a run: how they share weights, clips and tokens, and what they tell each other."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from kinema.errors import ConfigError, PeerError
from kinema.nn import STDiT2
from kinema.nn.lora import LoRA
from kinema.nn.precision import Precision, computed_in
from kinema.nn.sequence import SequenceGroup

T = TypeVar("T")
_GATHERED_AT_ONCE = 2**28
"""Bytes of weights: a smaller module is gathered whole, as every message between ranks takes its time."""
_PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """How the ranks of a run share its work; their number is replicate x shard x sequence.

    Weights, gradients and optimizer state are sharded over `shard` ranks (0: all that are left), in
    `replicate` copies. `sequence` ranks share the tokens of each clip; the others have clips of their own.
    Each rank goes through its clips of a step in `accumulate` parts, to hold fewer at a time. None of these
    changes which clips a step has.
    """

    shard: int = 0
    replicate: int = 1
    sequence: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.shard < 0:
            raise ValueError(f"shard must not be negative, got {self.shard}")
        for name in ("replicate", "sequence", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def shards(self, ranks: int) -> int:
        """Ranks that hold one copy of the weights between them, those of a sequence group not counted."""
        rest, uneven = divmod(ranks, self.replicate * self.sequence)
        if uneven or (self.shard and self.shard != rest):
            raise ConfigError(
                f"parallel: replicate {self.replicate} x shard {self.shard or 'rest'} x sequence "
                f"{self.sequence} do not make the {ranks} processes of this run; change one, or --nproc"
            )
        return rest


@dataclass(frozen=True, kw_only=True)
class World:
    """This process among the others. A world of one has no groups and no mesh."""

    device: torch.device
    rank: int = 0
    size: int = 1
    mesh: DeviceMesh | None = None
    sequence: SequenceGroup | None = None
    control: dist.ProcessGroup | None = field(default=None, repr=False)
    saving: dist.ProcessGroup | None = field(default=None, repr=False)

    @property
    def main(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def clip_rank(self) -> int:
        """Which part of a step's clips is this rank's; ranks that share tokens have the same."""
        return self.rank // (self.sequence.size if self.sequence else 1)

    @property
    def clip_ranks(self) -> int:
        """How many parts a step's clips are cut in."""
        return self.size // (self.sequence.size if self.sequence else 1)

    def gather(self, mine: T) -> list[T]:
        """What each rank says, in their order, on all ranks."""
        if self.control is None:
            return [mine]
        said: list[T | None] = [None] * self.size
        dist.all_gather_object(said, mine, group=self.control)
        return said  # type: ignore[return-value]

    def gather_clips(self, mine: T) -> list[T]:
        """The same of one rank for each part of the clips."""
        return self.gather(mine)[:: self.size // self.clip_ranks]

    def any(self, mine: bool) -> bool:
        """Whether it is so on any rank."""
        if self.control is None:
            return mine
        flag = torch.tensor(int(mine))
        dist.all_reduce(flag, dist.ReduceOp.MAX, group=self.control)
        return bool(flag)

    def first(self, work: Callable[[], T]) -> T:
        """Work that leaves files which the same work then finds: on rank 0 first, then on the others.

        An error of rank 0 is a `PeerError` on the others.
        """
        error: Exception | None = None
        if self.main:
            try:
                done = work()
            except Exception as caught:
                error = caught
        failed = self.any(error is not None)
        if error is not None:
            raise error
        if failed:
            raise PeerError("rank 0 could not prepare the run")
        return done if self.main else work()


@contextmanager
def join(config: ParallelConfig, seed: int = 0) -> Iterator[World]:
    """The world that torchrun (or Ray) started this process in; a world of one otherwise."""
    torch.manual_seed(seed)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        config.shards(1)
        with _alone():
            yield World(device=_device(0), saving=dist.group.WORLD)
        return
    shards = config.shards(size)
    device = _device(int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    started_here = not dist.is_initialized()
    if started_here:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield _world(config, shards, device)
    finally:
        if started_here:
            dist.destroy_process_group()


@contextmanager
def _alone() -> Iterator[None]:
    """A group of one in this process, so that checkpoints are written in one way."""
    if dist.is_initialized():
        yield
        return
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _world(config: ParallelConfig, shards: int, device: torch.device) -> World:
    rank, size = dist.get_rank(), dist.get_world_size()
    across = shards * config.sequence
    if config.replicate == 1:
        mesh = init_device_mesh(device.type, (across,), mesh_dim_names=("shard",))
    else:
        mesh = init_device_mesh(
            device.type, (config.replicate, across), mesh_dim_names=("replicate", "shard")
        )
    sequence = None
    if config.sequence > 1:
        clips = init_device_mesh(
            device.type, (size // config.sequence, config.sequence), mesh_dim_names=("clips", "sequence")
        )
        group = clips.get_group("sequence")
        sequence = SequenceGroup(group, dist.get_rank(group), config.sequence)
    # Of their own: what is saved in the background must not mix with what the steps say to each other.
    control, saving = (dist.new_group(backend="gloo", timeout=_PATIENCE) for _ in range(2))
    return World(
        device=device,
        rank=rank,
        size=size,
        mesh=mesh,
        sequence=sequence,
        control=control,
        saving=saving,
    )


def _device(local_rank: int) -> torch.device:
    return torch.device("cuda", local_rank) if torch.cuda.is_available() else torch.device("cpu")


def share(module: nn.Module, world: World, precision: Precision) -> nn.Module:
    """Shard a module's weights among the ranks, and its tokens if the world says so.

    A large module is gathered block by block, as is one whose blocks have another precision than the rest.
    In bf16 the transformer's blocks are gathered and computed in bfloat16 while the shards that the optimizer
    changes stay float32, gradients are summed in float32, and the weights of everything else (embeddings of
    time and size, the last layer, text encoders, the video UNet) are gathered in float32 too.
    A LoRA is small: every rank holds all of it.
    """
    if world.mesh is None or isinstance(module, LoRA):
        return module
    # Its output is cut out of a larger tensor; nothing here writes into it.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view")
    if isinstance(module, STDiT2):
        module.share_tokens(world.sequence)
    # Only its blocks are made for weights in bfloat16: norms of PyTorch refuse them beside float32 tokens.
    lower = computed_in(world.device.type, precision) == torch.bfloat16
    blocks = torch.bfloat16 if lower and isinstance(module, STDiT2) else None
    within = MixedPrecisionPolicy(param_dtype=blocks, reduce_dtype=torch.float32, cast_forward_inputs=False)
    around = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    large = sum(4 * parameter.numel() for parameter in module.parameters()) > _GATHERED_AT_ONCE
    units = _units(module) if large or blocks else []
    for unit in units:
        fully_shard(unit, mesh=world.mesh, mp_policy=within)
    fully_shard(module, mesh=world.mesh, mp_policy=around, reshard_after_forward=True)
    if isinstance(module, STDiT2):
        for block in units:
            register_fsdp_forward_method(block, "keys_values")
        register_fsdp_forward_method(module, "text_keys_values")
    return module


def _units(module: nn.Module) -> list[nn.Module]:
    """The members of the lists of blocks that a network is made of."""
    lists = [part for part in module.children() if isinstance(part, nn.ModuleList)]
    return [block for blocks in lists for block in blocks if next(block.parameters(), None) is not None]


def synchronise(modules: nn.ModuleDict, last: bool) -> None:
    """Whether the next backward pass is a step's last, in which the ranks sum their gradients."""
    for module in modules.values():
        if isinstance(module, FSDPModule):
            module.set_requires_gradient_sync(last)
            module.set_is_last_backward(last)


def average_gradients(modules: nn.ModuleDict, world: World) -> None:
    """Of what every rank holds whole, after a step's last backward pass."""
    if world.size == 1:
        return
    for module in modules.values():
        for parameter in () if isinstance(module, FSDPModule) else module.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            dist.all_reduce(parameter.grad)
            parameter.grad /= world.size


def local(tensor: Tensor) -> Tensor:
    """This rank's part of a tensor."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, on all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
