"""What a training run leaves to read: metrics.jsonl, TensorBoard files, heartbeat.json."""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kinema.errors import ConfigError
from kinema.files import atomic_path, write_text

SHEET = "plan.png"
"""In the folder of a run: what the network gets to see, by bucket."""
_HEARTBEAT_EVERY_S = 2.0


class RunLog:
    """Appends a row a step. On resume, rows from `start_step` on are cut: those steps are done again."""

    def __init__(
        self, folder: Path, *, start_step: int = 0, tensorboard: bool = True, wandb: str = ""
    ) -> None:
        self._folder = folder
        self._metrics = folder / "metrics.jsonl"
        _keep_rows_before(self._metrics, start_step)
        self._file = self._metrics.open("a", encoding="utf-8")
        self._writer = _tensorboard_writer(folder / "tensorboard", start_step) if tensorboard else None
        self._wandb = _wandb_run(folder, wandb) if wandb else None
        self._beat = 0.0

    def step(self, step: int, **values: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
        """One row: numbers, and tables of numbers, go to TensorBoard too."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        numbers = _numbers(values)
        if self._writer is not None:
            for name, number in numbers.items():
                self._writer.add_scalar(name, number, step)
        if self._wandb is not None:
            self._wandb.log(numbers, step=step)
        self.heartbeat(step + 1)

    def video(self, name: str, frames: UInt8[np.ndarray, "t h w 3"], fps: float, step: int) -> None:
        """A sample video in TensorBoard's image tab, as an animated GIF."""
        if self._writer is None:
            return
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(
            height=frames.shape[1],
            width=frames.shape[2],
            colorspace=3,
            encoded_image_string=_gif(frames, fps),
        )
        summary = Summary(value=[Summary.Value(tag=name, image=image)])
        self._writer.file_writer.add_summary(summary, step)

    def heartbeat(self, step: int, state: str = "running", cause: str | None = None) -> None:
        """Say that the run lives after so many steps; at most every two seconds, and when the state changes.

        `cause` is why a run failed.
        """
        now = time.time()
        if state == "running" and now - self._beat < _HEARTBEAT_EVERY_S:
            return
        self._beat = now
        beat: dict[str, Any] = {"pid": os.getpid(), "step": step, "time": now, "state": state}
        _write_beat(self._folder, beat | ({} if cause is None else {"cause": cause}))

    def close(self, step: int, state: str, cause: str | None = None) -> None:
        """Write the last heartbeat and close the files."""
        self.heartbeat(step, state, cause)
        self._file.close()
        if self._writer is not None:
            self._writer.close()
        if self._wandb is not None:
            self._wandb.finish(exit_code=int(state == "failed"))


def read_heartbeat(folder: Path) -> dict[str, Any]:
    """The last sign of a run: pid, steps done, time, state (of its end rank, cause, message); else empty."""
    path = folder / "heartbeat.json"
    try:
        beat = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return beat if isinstance(beat, dict) else {}


def record_death(folder: Path, *, rank: int, cause: str, message: str) -> None:
    """Say of a run that cannot say so itself what it died of, after as many steps as its rows tell."""
    end = {"state": "died", "rank": rank, "cause": cause, "message": message, "time": time.time()}
    # The last heartbeat may be two seconds older than the last row.
    rows = read_metrics(folder)
    done = {"step": rows[-1]["step"] + 1} if rows else {}
    _write_beat(folder, read_heartbeat(folder) | done | end)


def _write_beat(folder: Path, beat: dict[str, Any]) -> None:
    write_text(folder / "heartbeat.json", json.dumps(beat) + "\n")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's metrics.jsonl; an unfinished last line is left out."""
    path = folder / "metrics.jsonl"
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:  # a row that a killed run did not finish
            break
    return rows


_MEASURED = {"mfu", "memory_mb"}


def learned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without times, rates and memory: the same for each run of the same steps."""
    return [
        {name: value for name, value in row.items() if not name.endswith("_s") and name not in _MEASURED}
        for row in rows
    ]


def _keep_rows_before(metrics: Path, start_step: int) -> None:
    kept = [row for row in read_metrics(metrics.parent) if row["step"] < start_step]
    with atomic_path(metrics) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")


def _tensorboard_writer(folder: Path, start_step: int) -> Any:  # noqa: ANN401 - imported lazily
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=start_step or None)


def require_wandb(project: str) -> None:
    """Raise `ConfigError` when the extra is not installed."""
    if find_spec("wandb") is None:
        raise ConfigError(f'wandb = "{project}" needs the extra wandb: pip install "kinema[wandb]"')


def _wandb_run(folder: Path, project: str) -> Any:  # noqa: ANN401 - imported lazily
    """The run of this folder at Weights & Biases; the same one when it goes on."""
    import wandb

    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return wandb.init(project=project, name=folder.name, id=name, resume="allow", dir=folder)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by name, those of tables in it too."""
    return {
        f"train/{name}/{tag}".rstrip("/"): number
        for name, value in values.items()
        for tag, number in (value if isinstance(value, dict) else {"": value}).items()
        if isinstance(number, int | float)
    }


def _gif(frames: UInt8[np.ndarray, "t h w 3"], fps: float) -> bytes:
    from PIL import Image

    first, *rest = (Image.fromarray(frame) for frame in frames)
    target = io.BytesIO()
    first.save(target, "GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0)
    return target.getvalue()
