"""The queue of videos to make: a folder each, so that it outlives the studio and whoever makes them.

    jobs/<id>/
      request.json    the model's folder and the request, as `kinema generate` records it
      state.json      queued, running, done, failed, cancelled; step of steps
      cancel          is there when it is not wanted any more
      preview.jpg     what the last step showed
      video.mp4       and its sidecar, when it is done

One process makes them, one after the other, and holds a lock on the folder. A job that says it is running
while nobody holds the lock was cut off: it is made again, from its seed, to the same file.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from kinema.errors import OutputError
from kinema.files import write_text

State = Literal["queued", "running", "done", "failed", "cancelled"]
_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{8}")
_ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a job is; `message` says what went wrong."""

    state: State = "queued"
    step: int = 0
    steps: int = 0
    message: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video to make. `request` is as in a sidecar; `form` is what the page was filled with."""

    id: str
    folder: Path
    model: Path
    request: dict[str, Any]
    form: dict[str, Any]

    @property
    def status(self) -> Status:
        """As it is now."""
        record = _read(self.folder / "state.json")
        return Status(**record) if record else Status()

    def say(self, **changes: Any) -> None:  # noqa: ANN401 - whatever a field holds
        """Write the status with some fields changed."""
        status = replace(self.status, **changes)
        write_text(self.folder / "state.json", json.dumps(asdict(status)) + "\n")

    @property
    def cancelled(self) -> bool:
        """Whether it is not wanted any more."""
        return (self.folder / "cancel").exists()

    @property
    def result(self) -> Path:
        """The video or picture."""
        return self.folder / ("picture.png" if self.request.get("frames") == 1 else "video.mp4")

    @property
    def preview(self) -> Path:
        """What the last step showed."""
        return self.folder / "preview.jpg"

    @property
    def sidecar(self) -> dict[str, Any]:
        """Everything that was decided, once it is done."""
        return _read(self.result.with_name(self.result.name + ".json"))


class Jobs:
    """The jobs of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def submit(self, model: Path, request: dict[str, Any], form: dict[str, Any]) -> Job:
        """A new job at the end of the queue."""
        # In order of time by name; `state.json` comes last, for only then is the job whole.
        job_id = f"{time.time_ns():016x}-{secrets.token_hex(4)}"
        folder = self.folder / job_id
        folder.mkdir()
        record = {"model": str(model), "request": request, "form": form}
        write_text(folder / "request.json", json.dumps(record, indent=1) + "\n")
        write_text(folder / "state.json", json.dumps(asdict(Status())) + "\n")
        return Job(id=job_id, folder=folder, model=model, request=request, form=form)

    def all(self) -> list[Job]:
        """Every job, the oldest first."""
        return [job for path in sorted(self.folder.iterdir()) if (job := self.get(path.name)) is not None]

    def get(self, job_id: str) -> Job | None:
        """A job by its id; nothing else is opened."""
        folder = self.folder / job_id
        if not _ID.fullmatch(job_id) or not (folder / "state.json").is_file():
            return None
        record = _read(folder / "request.json")
        if not record:
            return None
        return Job(
            id=job_id,
            folder=folder,
            model=Path(record["model"]),
            request=record["request"],
            form=record.get("form", {}),
        )

    def waiting(self) -> list[Job]:
        """What is still to be made, the oldest first."""
        return [job for job in self.all() if job.status.state not in _ENDED]

    def cancel(self, job: Job) -> None:
        """It is not wanted any more; whoever makes it stops at the next step."""
        if job.status.state not in _ENDED:
            (job.folder / "cancel").touch()

    def remove(self, job: Job) -> None:
        """Delete a job that has ended, with its video."""
        if job.status.state in _ENDED:
            shutil.rmtree(job.folder)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else makes the jobs of this folder; true for one process at a time."""
        with (self.folder / ".lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


class Maker:
    """Keeps a process that makes the jobs while there are any; it ends with the studio, however that ends."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def wake(self) -> None:
        """Start the process if there is work and none is there."""
        with self._lock:
            if not self._jobs.waiting() or (self._process is not None and self._process.poll() is None):
                return
            try:
                # Its end of this pipe tells it that the studio is gone.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "kinema.studio.making", str(self._jobs.folder)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                )
            except OSError as error:
                raise OutputError(f"cannot start a process to make videos: {error.strerror}") from error

    def close(self) -> None:
        """End the process; what it was making is made again later."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
                assert self._process.stdin is not None
                self._process.stdin.close()
                self._process = None


def _read(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
