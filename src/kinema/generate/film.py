"""The frames of a plan as one stream, its own footage before and after what was made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.generate.conditioning import frames_at
from kinema.generate.tasks import Footage, Plan
from kinema.generate.windows import Made, Settings
from kinema.shapes import Size
from kinema.video.virtual_camera import through_camera

Frame = UInt8[np.ndarray, "h w 3"]


class Film:
    """The frames of a plan as one stream, and what was seen while it went by."""

    def __init__(self, plan: Plan, settings: Settings, made: Iterator[Made]) -> None:
        self.segments: list[dict[str, object]] = []
        self.frames = 0
        self._plan, self._settings, self._made = plan, settings, made
        self._digest = hashlib.sha256()

    def __iter__(self) -> Iterator[Frame]:
        plan = self._plan
        total = sum(window.shown[1] - window.shown[0] for window in plan.windows)
        stream = self._new_frames()
        if plan.before is not None:
            stream = faded(self._own(plan.before), stream, plan.before.frames, plan.before.blend)
            total += plan.before.frames - plan.before.blend
        if plan.after is not None:
            stream = faded(stream, self._own(plan.after), total, plan.after.blend)
        if self._settings.camera is not None and self._settings.shown is not None:
            stream = through_camera(stream, self._settings.camera, self._settings.shown, total)
        for frame in stream:
            self.frames += 1
            yield frame

    @property
    def latents_sha256(self) -> str:
        """SHA-256 over the latents of all windows, as little-endian float32, in the order `b c t h w`."""
        return self._digest.hexdigest()

    @property
    def drift(self) -> dict[str, float] | None:
        """How brightness and contrast moved from the first shown segment to the last; None for one."""
        seen = [segment for segment in self.segments if segment["frames"]]
        if len(seen) < 2:
            return None
        values = dict[str, float]()
        for name in ("mean", "contrast"):
            first, last = (float(str(segment[name])) for segment in (seen[0], seen[-1]))
            values |= {f"{name}_first": first, f"{name}_last": last}
        return values

    def _new_frames(self) -> Iterator[Frame]:
        for made in self._made:
            self._digest.update(latents_bytes(made.latents))
            self.segments.append(
                {
                    "prompt": made.window.prompt,
                    "frames": len(made.frames),
                    "mean": round(float(made.frames.mean()), 3) if len(made.frames) else 0.0,
                    "contrast": round(float(made.frames.std()), 3) if len(made.frames) else 0.0,
                    "latents_sha256": latents_hash(made.latents),
                }
            )
            yield from made.frames

    def _own(self, footage: Footage) -> Iterator[Frame]:
        size = Size(self._settings.height, self._settings.width)
        return frames_at(footage.path, range(footage.frames), size, self._settings.fps)


def faded(left: Iterator[Frame], right: Iterator[Frame], left_frames: int, blend: int) -> Iterator[Frame]:
    """One stream from two: the last `blend` frames of the left one turn into the first of the right one."""
    for index, frame in enumerate(left):
        share = (index - (left_frames - blend) + 1) / (blend + 1)
        yield frame if share <= 0 else _mixed(frame, next(right), share)
    yield from right


def _mixed(left: Frame, right: Frame, share: float) -> Frame:
    mixed: Frame = np.rint(left * (1 - share) + right * share).astype(np.uint8)
    return mixed


def latents_hash(latents: Float[Tensor, "b c t h w"]) -> str:
    """SHA-256 of the latents as little-endian float32, in the order `b c t h w`."""
    return hashlib.sha256(latents_bytes(latents)).hexdigest()


def latents_bytes(latents: Float[Tensor, "b c t h w"]) -> bytes:
    return bytes(latents.float().cpu().contiguous().numpy().astype("<f4").tobytes())
