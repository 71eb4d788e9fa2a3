"""A filled-in form to a request for a video, and what of it is given and what is made, frame by frame."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from kinema.encoders.latent_frames import TimeGrid
from kinema.errors import CheckpointError, ConfigError
from kinema.generate.camera import can_be_filmed
from kinema.generate.conditioning import Reference, lay
from kinema.generate.config import NO_PROMPT, GenerateConfig
from kinema.generate.mask_strategy import prompt_schedule
from kinema.generate.orbit import around
from kinema.generate.pictures import check_task, known_elevation
from kinema.generate.tasks import (
    Animate,
    Connect,
    Edit,
    Extend,
    FromText,
    Interpolate,
    Plan,
    Request,
    Task,
    Window,
    plan_of,
)
from kinema.model import network_config
from kinema.nn import NetworkConfig, STDiT2Config, VideoUNetConfig
from kinema.nn import Task as MadeFor
from kinema.studio.uploads import Upload

TASKS: Mapping[MadeFor, tuple[str, ...]] = {
    "text-to-video": ("text", "animate", "extend", "connect", "edit", "interpolate"),
    "image-to-video": ("animate", "orbit"),
    "interpolation": ("interpolate",),
}
"""What a form may ask of a model, by what its network was made for; the first is what a new form asks."""
MOST_ITEMS = 16
_MOST = {"frames": 1000, "height": 4096, "width": 4096, "steps": 1000, "segments": 64, "overlap": 500}
Find = Callable[[str], Upload | None]


@dataclass(frozen=True)
class ModelFacts:
    """What a model makes when nothing else is asked, and how many frames its latent frames hold."""

    height: int
    width: int
    frames: int
    fps: float
    steps: int
    guidance_scale: float
    grid: TimeGrid
    network: NetworkConfig = field(default_factory=STDiT2Config)
    guidance_given: float | None = None

    @property
    def guidance_hint(self) -> str:
        """What an empty field means: one scale, or another one where frames are given."""
        scale, given = f"{self.guidance_scale:g}", self.guidance_given
        return scale if given is None or given == self.guidance_scale else f"{scale}; given {given:g}"

    @property
    def made_for(self) -> MadeFor:
        """What the network makes video from."""
        return self.network.task if isinstance(self.network, VideoUNetConfig) else "text-to-video"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those of the form that the model can do."""
        return TASKS[self.made_for]

    @property
    def needs_prompt(self) -> bool:
        """Whether it is told in words what to show."""
        return self.made_for == "text-to-video"

    @classmethod
    def of(cls, folder: Path) -> ModelFacts:
        """From model.toml and the network's config: no weight is loaded."""
        try:
            record = tomllib.loads((folder / "model.toml").read_text(encoding="utf-8"))
            autoencoder, sampling = record["autoencoder"], record["sampling"]
            factor = (
                int(autoencoder.get("temporal_factor", 4)) if autoencoder.get("kind") == "cogvideox" else 1
            )
            return cls(
                **{name: sampling[name] for name in _SAMPLING},
                guidance_given=sampling.get("guidance_given"),
                grid=TimeGrid(factor),
                network=network_config(folder),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder / 'model.toml'} cannot be read: {error}") from error


_SAMPLING = ("height", "width", "frames", "fps", "steps", "guidance_scale")


@dataclass(frozen=True)
class Item:
    """An upload on the timeline."""

    upload: Upload
    first: int
    at: int
    frames: int | None
    strength: float

    @property
    def reference(self) -> Reference:
        """As the library has it."""
        frames = 1 if self.frames is None and self.upload.is_picture else self.frames
        return Reference(
            path=self.upload.path, first=self.first, at=self.at, frames=frames, strength=self.strength
        )


def read_items(form: Mapping[str, Any], find: Find) -> list[Item]:
    """The uploads of a form, in the order of their numbers: fields `item.N.upload`, `item.N.at` and so on."""
    numbers = sorted({int(name.split(".")[1]) for name in form if _is_item(name)})
    items = []
    for number in numbers[:MOST_ITEMS]:
        upload = find(str(form[f"item.{number}.upload"]))
        if upload is None:
            raise ConfigError("a file of this form is no longer here; add it again")
        frames = _whole(form, f"item.{number}.frames", "frames")
        items.append(
            Item(
                upload=upload,
                first=_whole(form, f"item.{number}.first", "begins at") or 0,
                at=_whole(form, f"item.{number}.at", "goes to") or 0,
                frames=frames,
                strength=_number(form, f"item.{number}.strength", "strength") or 0.0,
            )
        )
    return items


def _is_item(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 3 and parts[0] == "item" and parts[2] == "upload" and parts[1].isdecimal()


def config_of_form(form: Mapping[str, Any], find: Find) -> GenerateConfig:
    """The request. Raises `ConfigError` in words for whoever filled the form."""
    numbers: dict[str, Any] = {}
    for name, most in _MOST.items():
        value = _whole(form, name, name)
        if value is not None and value > most:
            raise ConfigError(f"{name} must be at most {most}, got {value}")
        numbers[name] = value
    numbers["segments"] = numbers["segments"] or 1
    task = task_of_form(form, find)
    if not isinstance(task, FromText | Animate | Extend):
        numbers |= {"segments": 1, "overlap": None}
    config = GenerateConfig(
        prompt=str(form.get("prompt", ""))[:2000],
        task=task,
        fps=_number(form, "fps", "fps"),
        guidance_scale=_number(form, "guidance_scale", "guidance"),
        seed=_whole(form, "seed", "seed") or 0,
        sampler=str(form.get("sampler") or "") or None,  # type: ignore[arg-type]
        camera=_camera(form),  # type: ignore[arg-type]
        loop=bool(form.get("loop")),
        **numbers,
    )
    if form.get("task") != "orbit":
        return config
    whole = replace(config, segments=1, overlap=None, loop=False)
    return around(replace(whole, elevation=_number(form, "elevation", "elevation")))


def _camera(form: Mapping[str, Any]) -> str | None:
    """The move, for the tasks whose form shows the field."""
    return str(form.get("camera") or "") or None if form.get("task") in {"text", "animate"} else None


def task_of_form(form: Mapping[str, Any], find: Find) -> Task:
    """The task with its files."""
    items = read_items(form, find)
    paths = tuple(item.upload.path for item in items)
    match str(form.get("task", "text")):
        case "text":
            return FromText(references=tuple(item.reference for item in items))
        case "animate" | "orbit":
            return Animate(image=_files(paths, 1, "a picture")[0])
        case "extend":
            (clip,) = _files(paths, 1, "a clip")
            return Extend(clip=clip, backwards=bool(form.get("backwards")), keep=_whole(form, "keep", "keep"))
        case "connect":
            start, end = _files(paths, 2, "two clips or pictures")
            return Connect(start=start, end=end, keep=_whole(form, "keep", "keep"))
        case "edit":
            (clip,) = _files(paths, 1, "a clip")
            strength = _number(form, "strength", "strength")
            return Edit(clip=clip, strength=0.6 if strength is None else strength, fill=_spans(form))
        case "interpolate":
            factor = _whole(form, "factor", "factor") or 4
            return Interpolate(sources=_files(paths, None, "a clip, or pictures"), factor=factor)
        case other:
            known = ", ".join(dict.fromkeys(task for tasks in TASKS.values() for task in tasks))
            raise ConfigError(f"{other!r} is no task; known are {known}")


def _files(paths: tuple[Path, ...], count: int | None, what: str) -> tuple[Path, ...]:
    if not paths or (count is not None and len(paths) < count):
        raise ConfigError(f"drop {what} on the timeline first")
    return paths if count is None else paths[:count]


def _spans(form: Mapping[str, Any]) -> tuple[tuple[int, int], ...]:
    spans = []
    for part in str(form.get("fill", "")).replace(" ", "").split(","):
        if part:
            first, _, last = part.partition("-")
            if not first.isdecimal() or (last and not last.isdecimal()):
                raise ConfigError(f"{part!r} is no span of frames; write such as 4-9,12")
            spans.append((int(first), int(last or first)))
    return tuple(spans)


def _whole(form: Mapping[str, Any], name: str, words: str) -> int | None:
    text = str(form.get(name, "")).strip()
    if not text:
        return None
    if not text.lstrip("-").isdecimal() or len(text) > 12:
        raise ConfigError(f"{words} is a whole number, got {text[:20]!r}")
    return int(text)


def _number(form: Mapping[str, Any], name: str, words: str) -> float | None:
    text = str(form.get(name, "")).strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -1e6 < value < 1e6:
        raise ConfigError(f"{words} is a number, got {text[:20]!r}")
    return value


@dataclass(frozen=True)
class Frame:
    """What a frame of the output is: from a file as it is, an edited one, carried over, or made."""

    kind: Literal["own", "given", "edited", "carried", "made"]
    strength: float = 0.0


@dataclass(frozen=True)
class Timeline:
    """The frames of a request in windows, each with its prompt, and the files' own frames around them."""

    before: int
    windows: list[tuple[str, list[Frame]]]
    after: int

    def count(self, kind: str) -> int:
        """Frames of a kind in all windows."""
        return sum(frame.kind == kind for _, frames in self.windows for frame in frames)

    @property
    def frames(self) -> int:
        """Frames in all windows."""
        return sum(len(frames) for _, frames in self.windows)


def timeline(config: GenerateConfig, facts: ModelFacts) -> Timeline:
    """What the samplers will be given. Raises `ConfigError` where task and request do not go together."""
    if facts.needs_prompt and not config.prompt.strip():
        raise ConfigError(NO_PROMPT)
    check_task(config.asked, facts.made_for, facts.frames)
    known_elevation(config.elevation, facts.network)
    picture = config.frames == 1 and isinstance(config.asked, FromText)
    can_be_filmed(config, 1 if picture else facts.frames)
    request = Request(
        prompts=tuple(prompt_schedule(config.prompt, config.segments)),
        frames=1 if picture else config.frames or max(2, facts.frames),
        fps=config.fps or facts.fps,
        grid=facts.grid,
        overlap=config.overlap,
        loop=config.loop,
    )
    plan = plan_of(config.asked, request)
    return Timeline(
        before=0 if plan.before is None else plan.before.frames - plan.before.blend,
        windows=[(window.prompt, _frames(window, plan)) for window in plan.windows if window.shown[1]],
        after=0 if plan.after is None else plan.after.frames - plan.after.blend,
    )


def _frames(window: Window, plan: Plan) -> list[Frame]:
    frames = [
        Frame("made") if cell is None else Frame("edited" if cell.strength else "given", cell.strength)
        for cell in lay(window.references, plan.lengths, window.frames)
    ]
    closing = range(window.frames - window.closing, window.frames)
    for index in (*range(window.overlap), *closing):
        frames[index] = Frame("carried")
    return frames
