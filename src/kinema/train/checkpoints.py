"""Checkpoints of a run: each rank writes its shards in the background, one rename makes them a checkpoint.

They are written and read by torch.distributed.checkpoint in its safetensors form, so that nothing is ever
unpickled; `state.json` holds the numbers and the SHA-256 of every file, itself included.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_saver import save

from kinema.checkpoint import TensorGroups, check_fits, read_json
from kinema.errors import CheckpointError, OutputError
from kinema.train.parallel import World

_STATE = "state.json"
_SELF = "sha256"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint on disk. `refused` names newer folders that were damaged, with the reason."""

    folder: Path
    step: int
    state: dict[str, Any]
    refused: tuple[str, ...] = ()

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """An empty (meta) tensor for each that is stored, by `group/key`."""
        stored = HuggingFaceStorageReader(str(self.folder)).read_metadata().state_dict_metadata
        return {
            name: torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
            for name, entry in stored.items()
            if isinstance(entry, TensorStorageMetadata)
        }

    @property
    def groups(self) -> dict[str, dict[str, Tensor]]:
        """Everything, read in full."""
        return {name: self.group(name) for name in dict.fromkeys(key.split("/")[0] for key in self.tensors)}

    def group(self, name: str) -> dict[str, Tensor]:
        """The tensors of one group, read in full."""
        full = {key: torch.empty_like(value, device="cpu") for key, value in self.stored(name).items()}
        self.fill({f"{name}/{key}": tensor for key, tensor in full.items()})
        return full

    def stored(self, name: str) -> dict[str, Tensor]:
        """The names and (on the meta device) shapes of one group's tensors."""
        prefix = f"{name}/"
        return {
            key.removeprefix(prefix): tensor for key, tensor in self.tensors.items() if key.startswith(prefix)
        }

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Read into tensors, by `group/key`: whole ones, or this rank's shards of them."""
        if not tensors:
            return
        # What `dcp.load` does, but each rank on its own: what it reads is nobody else's business.
        reader, planner = HuggingFaceStorageReader(str(self.folder)), DefaultLoadPlanner()
        metadata = reader.read_metadata()
        planner.set_up_planner(dict(tensors), metadata, is_coordinator=True)
        reader.set_up_storage_reader(metadata, is_coordinator=True)
        [plan] = reader.prepare_global_plan([reader.prepare_local_plan(planner.create_local_plan())])
        reader.read_data(planner.finish_plan(plan), planner).wait()


class Checkpoints:
    """The checkpoints of a run. One is written at a time, while training goes on."""

    def __init__(self, folder: Path, world: World, *, keep: int, keep_every: int = 0) -> None:
        self._folder, self._world = folder, world
        self._keep, self._keep_every = keep, keep_every
        self._stager = DefaultStager(StagingOptions(False, False, False, False))
        self._thread: Thread | None = None
        self._error: BaseException | None = None
        if world.main:
            for leftover in folder.glob(".step-*"):
                shutil.rmtree(leftover, ignore_errors=True)

    def save(
        self,
        step: int,
        groups: TensorGroups,
        state: Mapping[str, Any],
        then: Callable[[Checkpoint], None] | None = None,
    ) -> None:
        """Take a copy of everything, and write it in the background; `then` runs on rank 0 after that.

        An earlier one that is still being written is waited for; so is its error raised here.
        """
        self.wait()
        flat = {f"{name}/{key}": tensor for name, group in groups.items() for key, tensor in group.items()}
        staged = self._stager.stage({key: tensor.detach() for key, tensor in flat.items()})
        record = {"step": step, "state": dict(state)}

        def work() -> None:
            try:
                checkpoint = self._write(step, staged, record)
                if then is not None and self._world.main:
                    then(checkpoint)
            except (Exception, CheckpointException) as error:
                self._error = error

        self._thread = Thread(target=work, name="kinema-checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Until the last one is on disk. A full disk is an `OutputError`."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            if isinstance(error, OSError | CheckpointException):
                raise OutputError(
                    f"cannot write a checkpoint in {self._folder}: {_cause(error)}; free some space, "
                    "then go on with --resume"
                ) from error
            raise error

    def _write(self, step: int, staged: Any, record: dict[str, Any]) -> Checkpoint:  # noqa: ANN401
        target, temporary = self._folder / f"step-{step:08d}", self._folder / f".step-{step:08d}"
        temporary.mkdir(parents=True, exist_ok=True)
        save(
            staged,
            storage_writer=HuggingFaceStorageWriter(str(temporary), save_distributed=True),
            process_group=self._world.saving,
        )
        mine = {path.name: _digest(path) for path in temporary.glob(f"shard-{self._world.rank + 1:05d}-*")}
        files = {name: digest for said in self._say(mine) for name, digest in said.items()}
        if self._world.main:
            record = record | {"files": files}
            _write_state(temporary / _STATE, record | {_SELF: _self_digest(record)})
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
            _sync(self._folder)
            self._prune()
        self._say({})
        return Checkpoint(folder=target, step=step, state=record["state"])

    def _say(self, mine: dict[str, str]) -> list[dict[str, str]]:
        said: list[dict[str, str] | None] = [None] * self._world.size
        torch.distributed.all_gather_object(said, mine, group=self._world.saving)
        return [words for words in said if words is not None]

    def _prune(self) -> None:
        for old in checkpoint_folders(self._folder)[: -self._keep]:
            if not self._keep_every or int(old.name[5:]) % self._keep_every:
                shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(folder: Path, world: World | None = None) -> Checkpoint | None:
    """The newest checkpoint whose every byte is as it was written; None when there is none at all.

    Damaged newer ones are listed in `refused`. Raises `CheckpointError` when all are damaged. The ranks of
    a world share the reading.
    """
    world = world or World(device=torch.device("cpu"))
    refused: list[str] = []
    for path in reversed(checkpoint_folders(folder)):
        try:
            found, fault = _verify(path, world.rank, world.size), ""
        except CheckpointError as error:
            found, fault = None, str(error)
        faults = [said for said in world.gather(fault) if said]
        if found is not None and not faults:
            return Checkpoint(folder=path, step=found.step, state=found.state, refused=tuple(refused))
        refused += faults[:1]
    if refused:
        raise CheckpointError(f"no checkpoint in {folder} can be read: {refused[0]}")
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """One checkpoint folder; a file that is missing, cut short or altered is refused by name."""
    return _verify(folder, 0, 1)


def fill_from(module: nn.Module, checkpoint: Checkpoint, group: str) -> None:
    """Read a group into a module, or this rank's shards of it; every key and shape must match."""
    check_fits(module, checkpoint.stored(group), f"{checkpoint.folder}/{group}")
    checkpoint.fill({f"{group}/{key}": tensor.detach() for key, tensor in module.state_dict().items()})


def checkpoint_folders(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first, by step number."""
    found = {int(path.name[5:]): path for path in folder.glob("step-*") if path.name[5:].isdigit()}
    return [found[step] for step in sorted(found)]


def _verify(folder: Path, rank: int, size: int) -> Checkpoint:
    record = read_json(folder / _STATE)
    try:
        claimed = record.pop(_SELF)
        if claimed != _self_digest(record):
            raise CheckpointError(f"{folder / _STATE} is damaged: its SHA-256 differs from the one written")
        for name, digest in sorted(record["files"].items())[rank::size]:
            path = folder / name
            if not path.is_file():
                raise CheckpointError(f"{path} is missing")
            if _digest(path) != digest:
                raise CheckpointError(f"{path} is damaged: its SHA-256 differs from the one written")
        return Checkpoint(folder=folder, step=int(record["step"]), state=record["state"])
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / _STATE} is not a checkpoint's state: {error!r}") from error


def _write_state(path: Path, record: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(record, indent=2), encoding="utf-8")
    _sync(path)
    _sync(path.parent)


def _self_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _cause(error: BaseException) -> str:
    """The first line of what went wrong on the first rank that failed."""
    if isinstance(error, CheckpointException) and error.failures:
        failure = next(iter(error.failures.values()))
        return str(failure[0] if isinstance(failure, tuple) else failure).splitlines()[0]
    return str(error)
