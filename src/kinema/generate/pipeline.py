"""From a prompt to a file, with a sidecar that reproduces it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema import __version__
from kinema.checkpoint import as_record, from_record, write_json
from kinema.denoiser import default_sampler
from kinema.denoiser.parts import split_prompts
from kinema.diffusion.guidance import Guidance
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.processes import most_steps
from kinema.encoders.latent_frames import TimeGrid
from kinema.encoders.protocols import Parting
from kinema.errors import ConfigError
from kinema.files import file_sha256, writable_folder
from kinema.generate.camera import filmed
from kinema.generate.conditioning import frames_in
from kinema.generate.config import NO_PROMPT, GenerateConfig
from kinema.generate.film import Film, latents_hash
from kinema.generate.loading import ready_model
from kinema.generate.mask_strategy import prompt_schedule
from kinema.generate.pictures import check_task, known_elevation, noise_on_pictures
from kinema.generate.repeatable import repeatable
from kinema.generate.tasks import Animate, FromText, Interpolate, Plan, Request, files_of, plan_of
from kinema.generate.windows import Settings, sample_windows
from kinema.model import Model
from kinema.motion import CameraMove
from kinema.nn.precision import computed_in
from kinema.progress import Progress
from kinema.shapes import Size
from kinema.video.reader import probe
from kinema.video.virtual_camera import canvas
from kinema.video.writer import write_image, write_video

__all__ = ["GenerateConfig", "generate", "latents_hash"]

Watch = Callable[[Model, Float[Tensor, "b c t h w"]], None]

_log = logging.getLogger(__name__)
INTERVALS_A_WINDOW = 32
"""Of interpolation: what is decoded together, so that no seam shows between its frames."""

_IMAGES = {".png", ".jpg", ".jpeg", ".webp"}
_VIDEOS = {".mp4"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One file to write, with everything decided."""

    config: GenerateConfig
    plan: Plan
    settings: Settings
    files: Mapping[Path, str]

    @property
    def task(self) -> str:
        """What the sidecar calls it."""
        match self.config.asked:
            case FromText(references=()):
                return "text-to-video" if self.plan.windows[-1].frames > 1 else "text-to-image"
            case Animate():
                return "image-to-video"
            case FromText():
                return "references"
            case task:
                return task.kind


def generate(
    model_folder: Path, config: GenerateConfig, out: Path, progress: Progress, watch: Watch | None = None
) -> dict[str, Any]:
    """Write `out` (.mp4, or an image for one frame) and `<out>.json`; return what the sidecar holds.

    `watch` is shown the model and its estimate of the clean latents after each step.

    The same config, model and machine give the same latents, byte for byte.
    """
    check_suffix(out)
    writable_folder(out.parent)
    model, facts = ready_model(model_folder, config)
    job = prepare(config, model, out)
    warn_of_unknown_words(model, job)
    began = time.monotonic()
    progress.stage("generate", job.settings.evaluations * len(job.plan.windows))

    def on_step(estimate: Float[Tensor, "b c t h w"]) -> None:
        progress.advance()
        if watch is not None:
            watch(model, estimate)

    with repeatable(), torch.inference_mode():
        generator = torch.Generator(model.device).manual_seed(config.seed)
        made = sample_windows(model, job.plan, job.settings, generator, on_step)
        film = Film(job.plan, job.settings, made)
        write_film(out, film, job.settings.fps)
    record = sidecar(job, film, model, out) | {
        "model": facts,
        "seconds": round(time.monotonic() - began, 2),
    }
    write_json(sidecar_path(out), record)
    return record


def config_of(record: Mapping[str, Any]) -> GenerateConfig:
    """The config that a sidecar was written for; it makes the same latents again."""
    return from_record(GenerateConfig, record["request"], "the sidecar's request")


def sidecar_path(out: Path) -> Path:
    """The record beside a file."""
    return out.with_name(out.name + ".json")


def prepare(config: GenerateConfig, model: Model, out: Path) -> Job:
    """Decide everything that can be decided before sampling, and find what does not fit."""
    check_task(config.asked, model.task, model.sampling.frames)
    if not config.prompt.strip() and model.task == "text-to-video":
        raise ConfigError(NO_PROMPT)
    config = _resolved(config, model)
    frames = _frames(config, model, out)
    task = config.asked
    for file in files_of(task):
        frames_in(file, 1.0)
    prompts, move = filmed(prompt_schedule(config.prompt, config.segments), config, model, frames)
    settings = _settings(config, model, move)
    request = Request(
        prompts=prompts,
        frames=frames if model.task != "interpolation" else (frames - 1) * INTERVALS_A_WINDOW + 1,
        fps=settings.fps,
        grid=TimeGrid(model.autoencoder.temporal_factor),
        # A picture is all that a network of pictures takes over from the window before.
        overlap=1 if model.task == "image-to-video" else config.overlap,
        loop=config.loop,
    )
    return Job(
        config=config,
        plan=plan_of(task, request),
        settings=settings,
        files={file: file_sha256(file) for file in files_of(task)},
    )


def sidecar(job: Job, film: Film, model: Model, out: Path) -> dict[str, Any]:
    """Every setting, every file by its hash, and what came out."""
    config, settings = job.config, job.settings
    return {
        "file": out.name,
        "task": job.task,
        "prompt": config.prompt,
        "image": None if config.image is None else _file_record(config.image, job),
        "references": reference_records(job),
        **_shape_record(job),
        "steps": settings.steps,
        "sampler": settings.sampler,
        "schedule": settings.schedule,
        "precision": settings.precision,
        "computed_in": str(computed_in(model.device.type, settings.precision)).removeprefix("torch."),
        **({"compiled": True} if config.compile else {}),
        "guidance_scale": settings.guidance.scale,
        **({} if settings.guidance.first is None else {"guidance_first": settings.guidance.first}),
        **({} if settings.guidance_given is None else {"guidance_given": settings.guidance_given.scale}),
        **({} if not settings.keep_given else {"keep_given": settings.keep_given}),
        **({} if not settings.guidance.motion else {"motion_guidance": settings.guidance.motion}),
        **({} if settings.guidance.lora == 1 else {"lora_guidance": settings.guidance.lora}),
        **_parts_record(job, model),
        **({} if settings.motion is None else {"motion": settings.motion}),
        **({} if settings.elevation is None else {"elevation": settings.elevation}),
        "seed": config.seed,
        "ema": config.ema,
        "request": request_record(config),
        "kinema": __version__,
        "torch": torch.__version__,
        "device": model.device.type,
        "threads": torch.get_num_threads(),
        "frames_written": film.frames,
        "segments": film.segments,
        "drift": film.drift,
        "latents_sha256": film.latents_sha256,
        "unknown_words": unknown_words(model, job),
    }


def _shape_record(job: Job) -> dict[str, Any]:
    """What is written; of a video with a moving camera the size that was made too."""
    settings = job.settings
    made = as_record(settings.shape(job.plan.windows[-1].frames))
    if settings.shown is None:
        return made
    seen = {"camera_motion": settings.camera, "made": [settings.height, settings.width]}
    return made | as_record(settings.shown) | seen


def _parts_record(job: Job, model: Model) -> dict[str, Any]:
    """The captions that the prompts of windows without given frames were divided into."""
    apart, windows = (
        job.settings.parts_apart,
        [window for window in job.plan.windows if not window.keeps_frames],
    )
    parts = (
        split_prompts(model.text_encoder, [window.prompt for window in windows])
        if apart and windows
        else None
    )
    return {} if parts is None else {"parts_apart": apart, "parts": parts.captions}


def reference_records(job: Job) -> list[dict[str, str]]:
    """The files that a job reads, each with its hash."""
    return [_file_record(path, job) for path in job.files]


def request_record(config: GenerateConfig) -> dict[str, Any]:
    """What makes a video what it is, as plain JSON values."""
    record = _plain(as_record(config))
    assert isinstance(record, dict)
    del record["offload"], record["compile"]
    return record


def write_film(out: Path, film: Film, fps: float) -> None:
    """The frames, written as they come."""
    if out.suffix.lower() not in _IMAGES:
        write_video(out, film, fps)
        return
    last: UInt8[np.ndarray, "h w 3"] | None = None
    for frame in film:
        last = frame
    assert last is not None
    write_image(out, last)


def unknown_words(model: Model, job: Job) -> list[str]:
    """Words of the prompts that the model never saw."""
    texts = dict.fromkeys(window.prompt for window in job.plan.windows)
    return list(dict.fromkeys(word for text in texts for word in model.text_encoder.unknown_words(text)))


def warn_of_unknown_words(model: Model, job: Job) -> None:
    if unknown := unknown_words(model, job):
        _log.warning("the model does not know: %s", ", ".join(unknown))


def _resolved(config: GenerateConfig, model: Model) -> GenerateConfig:
    """The model's defaults in place of None; how many frames is for the task to say."""
    sampling = as_record(model.sampling).items()
    defaults = {name: value for name, value in sampling if name not in {"frames", "virtual_camera"}}
    if rate := _own_rate(config):
        defaults["fps"] = rate
    if config.guidance_scale is not None:
        defaults["guidance_given"] = config.guidance_scale
    missing = {name: value for name, value in defaults.items() if getattr(config, name) is None}
    resolved = replace(config, **missing, sampler=config.sampler or default_sampler(model))
    if resolved.sampler == "ancestral" and not isinstance(model.process, IDDPMConfig):
        raise ConfigError(
            f"this model's process is {model.process.kind} and has no ancestral sampler; "
            "use euler, heun or dpmpp-2m"
        )
    limit = most_steps(model.process)
    if limit is not None and resolved.steps is not None and resolved.steps > limit:
        raise ConfigError(f"steps must be at most {limit} for this model, got {resolved.steps}")
    return resolved


def _own_rate(config: GenerateConfig) -> float | None:
    """Interpolating a clip multiplies its own rate."""
    match config.asked:
        case Interpolate(sources=(clip,), factor=factor) if clip.is_file():
            return probe(clip).fps * factor or None
        case _:
            return None


def _frames(config: GenerateConfig, model: Model, out: Path) -> int:
    """Frames of one window."""
    task = config.asked
    if out.suffix.lower() in _IMAGES or (config.frames == 1 and isinstance(task, FromText)):
        if not isinstance(task, FromText) or (config.frames or 1) != 1 or config.segments > 1 or config.loop:
            raise ConfigError(f"{out.name} is one image; name an .mp4 for several frames")
        return 1
    frames = config.frames or max(2, model.sampling.frames)
    if model.task == "interpolation" and frames != model.sampling.frames:
        raise ConfigError("interpolation makes as many frames as its factor says; leave out --frames")
    if frames < 2:
        raise ConfigError(f"frames must be at least 2 for a video, got {frames}; or name a .png output")
    return frames


def _settings(config: GenerateConfig, model: Model, move: CameraMove | None) -> Settings:
    """Sides are rounded down to what the autoencoder can decode."""
    assert config.height is not None
    assert config.width is not None
    assert config.fps is not None
    assert config.steps is not None
    assert config.sampler is not None
    factor = model.autoencoder.spatial_factor
    height, width = config.height // factor * factor, config.width // factor * factor
    if not height or not width:
        raise ConfigError(f"sides must be at least {factor}, got {config.height} by {config.width}")
    shown = Size(height, width)
    made = shown if move is None else canvas(shown, factor)
    guidance, given = _guidance(config, model), config.guidance_given
    return Settings(
        height=made.height,
        width=made.width,
        camera=move,
        shown=None if move is None else shown,
        fps=config.fps,
        steps=config.steps,
        sampler=config.sampler,
        schedule=config.schedule,
        precision=config.precision,
        guidance=guidance,
        guidance_given=None if given is None or given == guidance.scale else replace(guidance, scale=given),
        keep_given=_kept(config, model),
        parts_apart=_apart(config, model),
        motion=config.motion,
        elevation=known_elevation(config.elevation, model.network.config),
        augmentation=noise_on_pictures(model, config.augmentation),
    )


def _guidance(config: GenerateConfig, model: Model) -> Guidance:
    assert config.guidance_scale is not None
    if config.motion_guidance and not isinstance(model.text_encoder, Parting):
        raise ConfigError("this model's text encoder cannot tell what moves; leave out --motion-guidance")
    shape = config.guidance_shape or "linear"
    return Guidance(
        scale=config.guidance_scale,
        first=config.guidance_first,
        shape=shape,
        motion=config.motion_guidance or 0.0,
        lora=config.lora_guidance,
    )


def _apart(config: GenerateConfig, model: Model) -> float:
    if config.parts_apart and not isinstance(model.text_encoder, Parting):
        raise ConfigError("this model's text encoder cannot tell a prompt's parts; leave out --parts-apart")
    return config.parts_apart or 0.0


def _kept(config: GenerateConfig, model: Model) -> float:
    if config.keep_given and (model.task != "text-to-video" or model.autoencoder.temporal_factor > 1):
        raise ConfigError("keep_given needs a model of texts with an autoencoder of single frames; set 0")
    return config.keep_given or 0.0


def check_suffix(out: Path) -> None:
    """Only names that can be written."""
    if out.suffix.lower() not in _IMAGES | _VIDEOS:
        known = ", ".join(sorted(_VIDEOS | _IMAGES))
        raise ConfigError(f"cannot write {out.name}; the output's suffix must be one of {known}")


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    match value:
        case dict():
            return {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case Path():
            return str(value)
        case _:
            return value


def _file_record(path: Path, job: Job) -> dict[str, str]:
    return {"path": str(path), "sha256": job.files[path]}
