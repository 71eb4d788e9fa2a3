"""The process that makes videos: takes jobs in order until there are none, and ends with the studio."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kinema.errors import KinemaError
from kinema.files import atomic_path
from kinema.studio.jobs import Job, Jobs

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from kinema.model import Model

_IDLE_S = 20.0
_LOOK_S = 0.2
_TELL_S = 0.25
_PREVIEW_LATENTS = 32  # the longer side of what is decoded for a preview
_PREVIEW_SIDE = 160


class CancelledError(Exception):
    """The job that is being made is not wanted any more."""


class Watched:
    """Progress of one job, told to its folder; also where it notices that it is not wanted."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._step, self._steps = 0, 0
        self._told = 0.0
        self._due = False

    def stage(self, name: str, total: int | None = None) -> None:  # noqa: ARG002 - that of the protocol
        """The number of steps is known."""
        self._step, self._steps = 0, total or 0
        self._job.say(step=0, steps=self._steps)

    def advance(self, steps: int = 1, note: str = "") -> None:  # noqa: ARG002 - that of the protocol
        """A step is done."""
        self._step += steps
        if self._job.cancelled:
            raise CancelledError
        self._due = time.monotonic() - self._told >= _TELL_S
        if self._due or self._step == self._steps:
            self._told = time.monotonic()
            self._job.say(step=self._step)

    def line(self, text: str) -> None:
        """Nobody reads lines here."""

    def watch(self, model: Model, estimate: Float[Tensor, "b c t h w"]) -> None:
        """Show the estimate of a step that was told, in small: its middle frame."""
        if not self._due:
            return
        from kinema.shapes import Size
        from kinema.video.pixels import scale
        from kinema.video.transforms import to_frames
        from kinema.video.writer import image_bytes

        frame = to_frames(model.autoencoder.decode(_small(estimate))[0])[0]
        factor = _PREVIEW_SIDE / max(frame.shape[:2])
        size = Size(*(max(1, round(side * factor)) for side in frame.shape[:2]))
        with atomic_path(self._job.preview) as temporary:
            temporary.write_bytes(image_bytes(scale(frame, size), ".jpg"))


def _small(estimate: Float[Tensor, "b c t h w"]) -> Float[Tensor, "1 c 1 h w"]:
    from torch.nn.functional import avg_pool2d

    middle = estimate[:1, :, estimate.shape[2] // 2]
    shrink = -(-max(middle.shape[-2:]) // _PREVIEW_LATENTS)
    if shrink > 1 and min(middle.shape[-2:]) >= shrink:
        middle = avg_pool2d(middle, shrink)
    return middle[:, :, None]


def make(job: Job) -> None:
    """One job, to its end, whatever that is."""
    if job.cancelled:
        job.say(state="cancelled")
        return
    began = time.monotonic()
    job.say(state="running", step=0, steps=0, message="")
    try:
        from kinema.checkpoint import from_record
        from kinema.generate.pipeline import GenerateConfig, generate

        watched = Watched(job)
        config = from_record(GenerateConfig, job.request, "the request")
        generate(job.model, config, job.result, watched, watched.watch)
    except CancelledError:
        job.say(state="cancelled")
    except (KinemaError, ValueError, RuntimeError, MemoryError, OSError) as error:
        job.say(state="failed", message=" ".join(str(error).split())[:500] or type(error).__name__)
    else:
        job.say(state="done", seconds=round(time.monotonic() - began, 2))


def work(folder: Path) -> None:
    """Make jobs until there have been none for a while."""
    jobs = Jobs(folder)
    with jobs.alone() as alone:
        idle_since = time.monotonic()
        while alone and time.monotonic() - idle_since < _IDLE_S:
            if waiting := jobs.waiting():
                make(waiting[0])
                idle_since = time.monotonic()
            else:
                time.sleep(_LOOK_S)


def _end_with_the_studio() -> None:
    """Its end of the pipe closes when it ends, killed or not."""
    sys.stdin.buffer.read()
    os._exit(1)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_studio, daemon=True).start()
    work(Path(sys.argv[1]))
