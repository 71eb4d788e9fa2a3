"""Several processes on this machine, by PyTorch's own elastic launcher; what they died of is written down."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import sys
import tempfile
import time
import traceback
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.errors import Interrupted, KinemaError, PeerError, TrainingError
from kinema.runlog import record_death

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

LAUNCHED = "KINEMA_LAUNCHED"
"""Set in launched processes: their errors are told by the launcher."""

_STOPPED = 130
_LOST_A_PEER = ("remote worker", "closed by peer", "reset by peer")
_PEER_FIRST_S = 3.0
_GRACE_S = 120
"""Seconds that ranks have for finishing a step and saving when they are asked to stop."""


def training_line(recipe: str | None, dataset: Path, sets: Sequence[str], nodes: int, nproc: int) -> str:
    """What starts a run: the same line on each of so many machines, NODE0 being the name of the first.

    On one machine `kinema train` starts the processes itself.
    """
    train = [
        "-m",
        "kinema",
        "train",
        *([recipe] if recipe else []),
        "--dataset",
        str(dataset),
        "--out",
        "run",
    ]
    train += [word for one in sets for word in ("--set", one)]
    if nodes == 1:
        return shlex.join([*train[1:], *(["--nproc", str(nproc)] if nproc > 1 else [])])
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", "NODE0:29500"]
    processes = ["--nnodes", str(nodes), "--nproc-per-node", str(nproc)]
    return shlex.join(["torchrun", *processes, *meeting, "--shutdown-timeout", str(_GRACE_S), *train])


def launch(arguments: Sequence[str], processes: int, out: Path) -> None:
    """Run `kinema ARGUMENTS` in so many processes that train together, and wait for them.

    Raises `Interrupted` when they were stopped, and `TrainingError` when one died; the cause is then in the
    run's heartbeat.json too.
    """
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # What the launcher says of a failed process is said again here, in a line.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    kills = oom_kills()
    with tempfile.TemporaryDirectory(prefix="kinema-launch-") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs),
            signals_to_handle="SIGTERM,SIGINT",
            shutdown_timeout=_GRACE_S,
        )
        os.environ[LAUNCHED] = "1"
        try:
            elastic_launch(config, sys.executable)("-m", "kinema", *arguments)
        except SignalException as stop:
            raise Interrupted(
                f"stopped by {signal.Signals(stop.sigval).name}; go on with --resume --out {out}"
            ) from None
        except ChildFailedError as failed:
            rank, failure = _root(failed)
            message = _message(failure)
            if failure.exitcode == _STOPPED:
                raise Interrupted(message or f"stopped; go on with --resume --out {out}") from None
            raise _died(out, rank, failure.exitcode, message, oom=oom_kills() > kills) from None
        finally:
            del os.environ[LAUNCHED]


def _root(failed: ChildFailedError) -> tuple[int, ProcessFailure]:
    """The process that was killed, where one was: the others only lost it. Else the first that failed."""
    for rank, failure in failed.failures.items():
        killed = failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM
        if killed and not _message(failure):
            return rank, failure
    return failed.get_first_failure()


def tell_launcher(error: BaseException) -> None:
    """In a launched process: leave the error where the launcher looks for it.

    One that only lost another process waits a moment, or the launcher would see it end before the other.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        if isinstance(error, PeerError) or any(words in f"{error}" for words in _LOST_A_PEER):
            time.sleep(_PEER_FIRST_S)
        facts = {
            "py_callstack": "".join(traceback.format_exception(error)),
            "timestamp": str(int(time.time())),
        }
        record = {"message": {"message": f"{error}" or type(error).__name__, "extraInfo": facts}}
        Path(path).write_text(json.dumps(record), encoding="utf-8")


def oom_kills() -> int:
    """Processes that the kernel has killed for memory since the machine started; 0 where it does not tell."""
    vmstat = Path("/proc/vmstat")
    lines = vmstat.read_text(encoding="utf-8").splitlines() if vmstat.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def cause(exitcode: int, *, oom: bool) -> str:
    """What an exit code says: a signal by its name, and whether it was for want of memory."""
    if exitcode >= 0:
        return f"exit code {exitcode}"
    name = signal.Signals(-exitcode).name
    return f"{name}, for the machine was out of memory" if oom and name == "SIGKILL" else name


def _died(out: Path, rank: int, exitcode: int, message: str, *, oom: bool) -> KinemaError:
    why = cause(exitcode, oom=oom)
    if out.is_dir():
        record_death(out, rank=rank, cause=why, message=message)
    if message:
        return TrainingError(message if rank == 0 else f"rank {rank}: {message}")
    return TrainingError(
        f"rank {rank} died of {why}; go on from the last checkpoint with --resume --out {out}"
    )


def _message(failure: ProcessFailure) -> str:
    """What the process told before it ended: it may abort after that, as the threads of its group end.

    Of a killed one, which told nothing, the launcher has words of its own, which are not wanted.
    """
    match failure.error_file_data:
        case {"message": {"message": str(text)}}:
            return text
        case {"message": str(text)} if failure.exitcode > 0:
            return text
    return ""
