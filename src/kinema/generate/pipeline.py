"""From a prompt to a file, with a sidecar that reproduces it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from kinema import __version__
from kinema.checkpoint import as_record, write_json
from kinema.denoiser import Sampler, VideoShape, default_sampler, sample_latents
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.processes import Schedule
from kinema.errors import ConfigError
from kinema.files import writable_folder
from kinema.generate.tasks import ImageToVideo, Task, TextToImage, TextToVideo, frames_of, given_of
from kinema.model import Model, load_model, model_hash
from kinema.progress import Progress
from kinema.video.transforms import to_frames
from kinema.video.writer import write_image, write_video

_log = logging.getLogger(__name__)
_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
_VIDEOS = {".mp4"}
_NAMES = {TextToVideo: "text-to-video", TextToImage: "text-to-image", ImageToVideo: "image-to-video"}


@dataclass(frozen=True, kw_only=True)
class GenerateConfig:
    """One video or image. What is None is the model's own default (what it was trained on).

    `schedule` says where a sampler other than the ancestral one has its steps.
    """

    prompt: str
    image: Path | None = None
    frames: int | None = None
    height: int | None = None
    width: int | None = None
    fps: float | None = None
    steps: int | None = None
    sampler: Sampler | None = None
    schedule: Schedule = "respaced"
    guidance_scale: float | None = None
    seed: int = 0
    ema: bool = True

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ConfigError(
                'the prompt is empty; say what to show, such as --prompt "a rabbit in the grass"'
            )
        for name in ("frames", "height", "width", "fps", "steps"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} must be above 0, got {value}")
        if self.image is not None and not self.image.is_file():
            raise ConfigError(f"image {self.image} does not exist; name a picture to start from")


def generate(model_folder: Path, config: GenerateConfig, out: Path, progress: Progress) -> dict[str, Any]:
    """Write `out` (.mp4, or an image for one frame) and `<out>.json`; return what the sidecar holds.

    The same config, model and machine give the same latents, byte for byte.
    """
    _check_suffix(out)
    writable_folder(out.parent)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = load_model(model_folder, ema=config.ema).to(device)
    config = _resolved(config, model)
    task = _task(config, model, out)
    shape = _shape(config, model, task)
    if unknown := model.text_encoder.unknown_words(config.prompt):
        _log.warning("the model does not know: %s", ", ".join(unknown))
    began = time.monotonic()
    latents, video = _sample(model, config, task, shape, progress)
    _write(out, video[0], shape.fps)
    record = {
        "file": out.name,
        "task": _NAMES[type(task)],
        "prompt": config.prompt,
        "image": None if config.image is None else _image_record(config.image),
        **as_record(shape),
        "steps": config.steps,
        "sampler": config.sampler,
        "schedule": config.schedule,
        "guidance_scale": config.guidance_scale,
        "seed": config.seed,
        "ema": config.ema,
        "model": {"folder": str(model_folder), "sha256": model_hash(model_folder)},
        "kinema": __version__,
        "torch": torch.__version__,
        "device": device.type,
        "threads": torch.get_num_threads(),
        "latents_sha256": latents_hash(latents),
        "unknown_words": unknown,
        "seconds": round(time.monotonic() - began, 2),
    }
    write_json(out.with_name(out.name + ".json"), record)
    return record


def _sample(
    model: Model, config: GenerateConfig, task: Task, shape: VideoShape, progress: Progress
) -> tuple[Float[Tensor, "1 c t h w"], Float[Tensor, "1 3 t2 h2 w2"]]:
    """Latents, and the video they decode to."""
    assert config.steps is not None
    assert config.guidance_scale is not None
    progress.stage("generate", config.steps * 2 - 1 if config.sampler == "heun" else config.steps)
    with _repeatable(), torch.inference_mode():
        latents = sample_latents(
            model,
            config.prompt,
            shape,
            steps=config.steps,
            guidance_scale=config.guidance_scale,
            sampler=config.sampler,
            schedule=config.schedule,
            generator=torch.Generator(model.device).manual_seed(config.seed),
            given=given_of(task, model.autoencoder, shape),
            on_step=progress.advance,
        )
        return latents, model.autoencoder.decode(latents)[:, :, : shape.frames]


def _resolved(config: GenerateConfig, model: Model) -> GenerateConfig:
    """The model's defaults in place of None; how many frames is for the task to say."""
    defaults = {name: value for name, value in as_record(model.sampling).items() if name != "frames"}
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    resolved = replace(config, **missing, sampler=config.sampler or default_sampler(model))
    if resolved.sampler == "ancestral" and not isinstance(model.process, IDDPMConfig):
        raise ConfigError("this model is a flow and has no ancestral sampler; use euler, heun or dpmpp-2m")
    if resolved.steps is not None and resolved.steps > model.process.steps:
        raise ConfigError(f"steps must be at most {model.process.steps} for this model, got {resolved.steps}")
    return resolved


def latents_hash(latents: Float[Tensor, "b c t h w"]) -> str:
    """SHA-256 of the latents as little-endian float32, in the order `b c t h w`."""
    return hashlib.sha256(latents.float().cpu().contiguous().numpy().astype("<f4").tobytes()).hexdigest()


def _task(config: GenerateConfig, model: Model, out: Path) -> Task:
    if out.suffix.lower() in _IMAGES or config.frames == 1:
        if config.image is not None or (config.frames or 1) != 1:
            raise ConfigError(f"{out.name} is one image; name an .mp4 for several frames")
        return TextToImage()
    frames = config.frames or max(2, model.sampling.frames)
    if config.image is not None:
        return ImageToVideo(image=config.image, frames=frames)
    return TextToVideo(frames=frames)


def _shape(config: GenerateConfig, model: Model, task: Task) -> VideoShape:
    """Sides are rounded down to what the autoencoder can decode."""
    assert config.height is not None
    assert config.width is not None
    assert config.fps is not None
    factor = model.autoencoder.spatial_factor
    height, width = config.height // factor * factor, config.width // factor * factor
    if not height or not width:
        raise ConfigError(
            f"height and width must be at least {factor}, got {config.height} and {config.width}"
        )
    return VideoShape(height=height, width=width, frames=frames_of(task), fps=config.fps)


def _check_suffix(out: Path) -> None:
    if out.suffix.lower() not in _IMAGES | _VIDEOS:
        known = ", ".join(sorted(_VIDEOS | _IMAGES))
        raise ConfigError(f"cannot write {out.name}; the output's suffix must be one of {known}")


def _write(out: Path, video: Float[Tensor, "c t h w"], fps: float) -> None:
    frames = to_frames(video)
    if out.suffix.lower() in _IMAGES:
        write_image(out, frames[0])
    else:
        write_video(out, frames, fps)


def _image_record(image: Path) -> dict[str, str]:
    return {"path": str(image), "sha256": hashlib.sha256(image.read_bytes()).hexdigest()}


@contextmanager
def _repeatable() -> Iterator[None]:
    """Ask torch for the same sums in every run; put its settings back afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cudnn.benchmark = benchmark
