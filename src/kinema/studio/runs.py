"""What a run leaves in its folder, read as it grows: curves, signs of life, previews, plan, logs."""

from __future__ import annotations

import json
import os
import re
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

State = Literal["running", "done", "stopped", "failed", "died", "silent", "no sign"]
_SILENT_S = 60.0
_POINTS = 600
_PREVIEW = re.compile(r"step-(\d+)-(\d+)\.(mp4|png)")
_TAIL_BYTES = 64 << 10
_TAIL_LINES = 200


class Curves:
    """The numbers of metrics.jsonl by name; only what was added since the last look is read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._inode, self._offset = 0, 0
        self._columns: dict[str, tuple[list[float], list[float]]] = {}
        self.last: dict[str, Any] = {}

    def refresh(self) -> None:
        """Read on; from the start when a resumed run wrote the file anew."""
        with self._lock:
            try:
                facts = self._path.stat()
            except FileNotFoundError:
                self._clear()
                return
            if facts.st_ino != self._inode or facts.st_size < self._offset:
                self._clear()
                self._inode = facts.st_ino
            with self._path.open("rb") as file:
                file.seek(self._offset)
                block = file.read()
            whole = block[: block.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.splitlines():
                self._add(line)

    def _add(self, line: bytes) -> None:
        try:
            row = json.loads(line)
        except ValueError:
            return
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            self.last = row
            for name, value in _flat(row):
                steps, values = self._columns.setdefault(name, ([], []))
                steps.append(row["step"])
                values.append(value)

    def names(self) -> list[str]:
        """What there are curves of, in the order of the file."""
        return list(self._columns)

    def series(self, name: str) -> tuple[list[float], list[float | None]]:
        """Steps and values, averaged in groups when there are many; None is not a number."""
        with self._lock:
            steps, values = (list(column) for column in self._columns.get(name, ([], [])))
        if len(steps) > _POINTS:
            edges = np.linspace(0, len(steps), _POINTS + 1).astype(int)
            counts = np.diff(edges)
            steps = (np.add.reduceat(np.array(steps, float), edges[:-1]) / counts).round().tolist()
            values = (np.add.reduceat(np.array(values, float), edges[:-1]) / counts).tolist()
        return steps, [value if np.isfinite(value) else None for value in values]


def _flat(row: dict[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found = []
    for name, value in row.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and prefix + name != "step":
            found.append((prefix + name, float(value)))
    return found


@dataclass(frozen=True)
class Vitals:
    """How a run is. `cause` is what it died of, in words, where that is known."""

    state: State
    step: int | None
    steps: int | None
    time: float | None
    pid: int | None
    cause: str

    @property
    def alive(self) -> bool:
        """Whether there is anything to wait for."""
        return self.state in ("running", "silent")


def vitals(folder: Path) -> Vitals:
    """From heartbeat.json, the process itself where it is on this machine, and resolved.toml."""
    beat = _json(folder / "heartbeat.json")
    moment = beat.get("time")
    said = str(beat.get("state", "no sign"))
    told = [f"rank {beat['rank']}" if beat.get("rank") else "", beat.get("cause"), beat.get("message")]
    cause = ": ".join(str(part) for part in told if part)
    state: State = said if said in ("running", "done", "stopped", "failed", "died") else "no sign"  # type: ignore[assignment]
    pid = beat.get("pid")
    if state == "running" and isinstance(moment, int | float) and time.time() - moment > _SILENT_S:
        state = "silent" if _lives(pid) else "died"
        cause = cause or ("" if state == "silent" else "its process is gone and left no word")
    steps = settings(folder).get("steps")
    return Vitals(
        state=state,
        step=beat.get("step"),
        steps=steps if isinstance(steps, int) else None,
        time=float(moment) if isinstance(moment, int | float) else None,
        pid=pid,
        cause=cause,
    )


def _lives(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Preview:
    """A sample video of a step; `name` is that of its file."""

    name: str
    step: int
    number: int
    prompt: str

    @property
    def moves(self) -> bool:
        """Whether it is a video; a model of pictures leaves pictures."""
        return self.name.endswith(".mp4")


def previews(folder: Path) -> list[Preview]:
    """All sample videos, by prompt and then by step."""
    samples = folder / "samples"
    found = []
    for path in sorted(samples.iterdir()) if samples.is_dir() else []:
        if match := _PREVIEW.fullmatch(path.name):
            prompt = str(_json(path.with_name(path.name + ".json")).get("prompt", ""))
            found.append(Preview(path.name, int(match[1]), int(match[2]), prompt))
    return sorted(found, key=lambda item: (item.number, item.step))


def spread(steps: list[int], most: int = 8) -> list[int]:
    """At most so many steps, evenly, with the first and the last."""
    if len(steps) <= most:
        return steps
    return [steps[round(index)] for index in np.linspace(0, len(steps) - 1, most)]


def settings(folder: Path) -> dict[str, Any]:
    """resolved.toml, empty where there is none that can be read."""
    try:
        return tomllib.loads((folder / "resolved.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def differences(tables: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """The keys in which settings differ, with the value of each; empty where it has none."""
    flat = [dict(_leaves(table)) for table in tables]
    names = dict.fromkeys(name for table in flat for name in table)
    rows = [(name, [table.get(name, "") for table in flat]) for name in names]
    return [(name, values) for name, values in rows if len(set(values)) > 1]


def _leaves(table: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    found = []
    for name, value in table.items():
        if isinstance(value, dict):
            found += _leaves(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, json.dumps(value, default=str)))
    return found


def plan_tables(folder: Path) -> list[tuple[str, list[tuple[str, str]], list[dict[str, Any]]]]:
    """plan.json by stage: a name, its facts, and its rows (one a bucket)."""
    record = _json(folder / "plan.json")
    stages = record.get("stages")
    named = stages if isinstance(stages, dict) else {"": record} if record else {}
    found = []
    for name, plan in named.items():
        facts = [(key, _words(value)) for key, value in plan.items() if not _is_table(value)]
        rows: list[dict[str, Any]] = next((value for value in plan.values() if _is_table(value)), [])
        found.append((str(name), facts, rows))
    return found


def _is_table(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_words(item)}" for key, item in value.items()) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "\n".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def log_tails(folder: Path) -> list[tuple[str, str]]:
    """The ends of the log files in the folder, by name."""
    paths = [*sorted(folder.glob("*.log")), *sorted(folder.glob("logs/**/*.log"))]
    return [(str(path.relative_to(folder)), _tail(path)) for path in paths[:16] if path.is_file()]


def _tail(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _json(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
