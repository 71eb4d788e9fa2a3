"""What is asked of a video or an image that is to be made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from kinema.denoiser import Precision, Sampler
from kinema.diffusion.guidance import GuidanceShape
from kinema.diffusion.processes import Schedule
from kinema.errors import ConfigError
from kinema.generate.tasks import Animate, FromText, Task
from kinema.motion import MOST_MOTION, CameraMove

NO_PROMPT = 'the prompt is empty; say what to show, such as --prompt "a rabbit in the grass"'


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """One video or image. What is None is the model's own default (what it was trained on).

    `task` None: text to video or image, or, with `image`, that picture as the first frame. `frames` are
    those of one segment; each of the `segments` begins with the last `overlap` frames of the one before.
    The prompt may change from segment to segment: `|0|a cat|2|a dog`. `schedule` says where a sampler other
    than the ancestral one has its steps. `precision` is what the network multiplies in. `guidance_first` is
    the scale of the first frame, which grows to `guidance_scale` ("linear": in the last frame; "triangle": in
    the middle); `guidance_given` is the scale of videos with given frames, from which `keep_given` takes what
    comes close to them (kinema.denoiser.keeping). `parts_apart` is the share of the steps in which the parts
    of a prompt are denoised each by itself (kinema.denoiser.parts). `motion_guidance` is how hard the first
    half of the steps is pushed away from the prompt with everything at rest; 0 is off. `camera` moves over a
    video that is made larger than it is shown (kinema.video.virtual_camera); None: as the prompt says, for a
    model that leaves it to that. `elevation` (degrees) is for models of orbits. `motion` is told to networks
    that know it, from 0 to 255; `augmentation` is the noise on a picture that is shown to the network.
    Each `lora` is `PATH` or `PATH:weight`; `lora_guidance` is how hard the first half of the steps is pushed
    away from what the model makes without them, 1 not at all. `offload` keeps the encoders in main memory
    while the network samples on a GPU, and changes nothing of what is made. `compile` makes the blocks of an
    ST-DiT-2 faster with torch.compile, at the first step of each size; numbers are then rounded elsewhere.
    """

    prompt: str
    image: Path | None = None
    task: Task | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    schedule: Schedule = "respaced"
    precision: Precision = "fp32"
    guidance_scale: float | None = None
    guidance_first: float | None = None
    guidance_shape: GuidanceShape | None = None
    guidance_given: float | None = None
    keep_given: float | None = None
    parts_apart: float | None = None
    motion_guidance: float | None = None
    camera: CameraMove | None = None
    motion: float | None = None
    elevation: float | None = None
    augmentation: float | None = None
    seed: int = 0
    segments: int = 1
    overlap: int | None = None
    loop: bool = False
    ema: bool = True
    lora: tuple[str, ...] = ()
    lora_guidance: float = 1.0
    offload: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        if not self.prompt.strip() and self.image is None and self.task is None:
            raise ConfigError(NO_PROMPT)
        self._check_ranges()
        for name in ("frames", "height", "width", "fps", "steps", "segments", "overlap"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be above 0, got {value}")
        if self.precision not in get_args(Precision):
            known = " or ".join(get_args(Precision))
            raise ConfigError(f"precision must be {known}, got {self.precision}")
        if self.camera is not None and self.camera not in get_args(CameraMove):
            raise ConfigError(f"camera must be one of {', '.join(get_args(CameraMove))}, got {self.camera}")
        if self.image is not None and not self.image.is_file():
            raise ConfigError(f"image {self.image} does not exist; name a picture to start from")
        if self.image is not None and self.task is not None:
            raise ConfigError("image is for a video from text; leave it out of this task")

    def _check_ranges(self) -> None:
        if self.elevation is not None and not -90 <= self.elevation <= 90:
            raise ConfigError(f"elevation is from -90 to 90 degrees, got {self.elevation:g}")
        if self.motion is not None and not 0 <= self.motion <= MOST_MOTION:
            raise ConfigError(f"motion is from 0 (still) to {MOST_MOTION:g}, got {self.motion:g}")
        if self.lora_guidance <= 0:
            raise ConfigError(f"lora_guidance must be above 0, got {self.lora_guidance:g}; 1 is off")
        if self.lora_guidance != 1 and not self.lora:
            raise ConfigError("lora_guidance pushes away from the model without its LoRAs; name a lora")
        for name in ("keep_given", "motion_guidance"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ConfigError(f"{name} must not be negative, got {value:g}")
        if self.parts_apart is not None and not 0 <= self.parts_apart < 1:
            raise ConfigError(f"parts_apart must be at least 0 and below 1, got {self.parts_apart:g}")

    @property
    def asked(self) -> Task:
        """The task, whichever way it was said."""
        if self.task is not None:
            return self.task
        return FromText() if self.image is None else Animate(image=self.image)
