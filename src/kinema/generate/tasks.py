"""What can be asked of a model, as types; each becomes windows to sample and footage to show around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from kinema.encoders.latent_frames import TimeGrid
from kinema.errors import ConfigError
from kinema.generate.conditioning import Reference, frames_in, is_picture, latent_strengths, lay


@dataclass(frozen=True, kw_only=True)
class FromText:
    """A video or a picture from the prompt, with whatever references are laid on it."""

    kind: Literal["text"] = "text"
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Animate:
    """The first frame is given, the rest follows it."""

    image: Path
    kind: Literal["animate"] = "animate"


@dataclass(frozen=True, kw_only=True)
class Extend:
    """A clip goes on after its end, or begins earlier. `keep` of its frames are shown to the network."""

    clip: Path
    backwards: bool = False
    keep: int | None = None
    kind: Literal["extend"] = "extend"


@dataclass(frozen=True, kw_only=True)
class Connect:
    """From the end of one clip (or picture) to the beginning of another."""

    start: Path
    end: Path
    keep: int | None = None
    kind: Literal["connect"] = "connect"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A clip made again: `strength` 0 leaves it, 1 forgets it. `fill` are spans (first, last) to change;
    the frames outside them are kept. Empty: every frame changes."""

    clip: Path
    strength: float = 0.6
    fill: tuple[tuple[int, int], ...] = ()
    kind: Literal["edit"] = "edit"

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ConfigError(f"strength is above 0 and at most 1, got {self.strength}")
        for first, last in self.fill:
            if not 0 <= first <= last:
                raise ConfigError(f"the span {first}-{last} is none; write first-last, counted from 0")


@dataclass(frozen=True, kw_only=True)
class Interpolate:
    """The frames of one clip, or several pictures, with `factor - 1` new frames between each two."""

    sources: tuple[Path, ...]
    factor: int = 4
    kind: Literal["interpolate"] = "interpolate"

    def __post_init__(self) -> None:
        if self.factor < 2:
            raise ConfigError(f"factor must be at least 2, got {self.factor}")
        if not self.sources:
            raise ConfigError("nothing to interpolate; name a clip, or two pictures or more")


Task = FromText | Animate | Extend | Connect | Edit | Interpolate


@dataclass(frozen=True, kw_only=True)
class Window:
    """One run of the sampler. `overlap` frames at its start are the last ones of the window before, `closing`
    ones at its end are those that the video began with. Frames `shown` (first, past the last) are written.
    """

    prompt: str
    frames: int
    references: tuple[Reference, ...] = ()
    overlap: int = 0
    closing: int = 0
    shown: tuple[int, int]

    @property
    def keeps_frames(self) -> bool:
        """Whether frames of it are given and stay as they are."""
        return self.overlap + self.closing > 0 or any(item.strength == 0 for item in self.references)


@dataclass(frozen=True, kw_only=True)
class Footage:
    """A clip's own frames beside the new ones; over `blend` frames one fades into the other."""

    path: Path
    frames: int
    blend: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Windows in the order in which they are sampled, and footage before and after what they show.

    `lengths` are the frames of each file, at the output's rate.
    """

    windows: tuple[Window, ...]
    before: Footage | None = None
    after: Footage | None = None
    lengths: Mapping[Path, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a plan needs besides the task: the texts of the segments, frames a window, the rate."""

    prompts: tuple[str, ...]
    frames: int
    fps: float
    grid: TimeGrid
    overlap: int | None = None
    loop: bool = False

    @property
    def kept(self) -> int:
        """Frames that a window takes over: a quarter of it unless said, in whole latent frames."""
        kept = self.grid.up(max(1, self.frames // 4) if self.overlap is None else self.overlap)
        if kept >= self.frames:
            raise ConfigError(
                f"{kept} frames taken over leave nothing of a window of {self.frames}; "
                "ask for more frames or a smaller overlap"
            )
        return kept


def plan_of(task: Task, request: Request) -> Plan:
    """The windows of a task. Raises `ConfigError` where task and request do not go together."""
    lengths = {file: frames_in(file, request.fps) for file in files_of(task)}
    if request.grid.factor > 1:
        _refuse_backwards(task, request)
    match task:
        case FromText(references=references):
            plan = Plan(windows=_segments(request, references))
        case Animate(image=image):
            plan = Plan(windows=_segments(request, (Reference(path=image, frames=1),)))
        case Extend():
            plan = _extend(task, request)
        case Connect():
            plan = _connect(task, request)
        case Edit():
            plan = _edit(task, request)
        case Interpolate():
            plan = _interpolate(task, request)
    for window in plan.windows:
        # Finds now what does not fit.
        latent_strengths(lay(window.references, lengths, window.frames), request.grid)
    return replace(plan, lengths=lengths)


def _refuse_backwards(task: Task, request: Request) -> None:
    """Refuse frames that are given after made ones: where a latent frame stands for several frames, it
    depends on those before it, which are not there yet when it is encoded.
    """
    match task:
        case _ if request.loop:
            what = "a loop"
        case Extend(backwards=True):
            what = "extending backwards"
        case Connect():
            what = "connecting"
        case Interpolate():
            what = "interpolation"
        case FromText(references=references) if any(reference.segment for reference in references):
            what = "a reference in a later segment"
        case _:
            return
    raise ConfigError(
        f"{what} needs an autoencoder of one frame a latent frame; this model's packs {request.grid.factor}"
    )


def files_of(task: Task) -> tuple[Path, ...]:
    """The files that a task reads, each once."""
    match task:
        case FromText(references=references):
            paths: Sequence[Path] = [reference.path for reference in references]
        case Animate(image=image):
            paths = [image]
        case Extend(clip=clip) | Edit(clip=clip):
            paths = [clip]
        case Connect(start=start, end=end):
            paths = [start, end]
        case Interpolate(sources=sources):
            paths = sources
    return tuple(dict.fromkeys(paths))


def _segments(request: Request, references: Sequence[Reference]) -> tuple[Window, ...]:
    """Segment after segment, each beginning with the end of the one before."""
    last = len(request.prompts) - 1
    for reference in references:
        if reference.segment > last:
            raise ConfigError(
                f"reference {reference.path.name} is for segment {reference.segment}, "
                f"but there are {last + 1} (counted from 0)"
            )
    kept = request.kept if last else 0
    windows = [
        Window(
            prompt=prompt,
            frames=request.frames,
            references=tuple(reference for reference in references if reference.segment == number),
            overlap=kept if number else 0,
            shown=(kept if number else 0, request.frames),
        )
        for number, prompt in enumerate(request.prompts)
    ]
    return _closed(request, windows) if request.loop else tuple(windows)


def _closed(request: Request, windows: list[Window]) -> tuple[Window, ...]:
    """The last window runs on into the first frames of the video, which are not shown a second time.

    A single window needs to know them beforehand: they are a window of their own, not shown.
    """
    if request.frames < 2:
        raise ConfigError("one picture cannot loop; ask for more frames")
    if len(windows) == 1:
        window = windows[0]
        beginning = tuple(
            replace(item, frames=1) for item in window.references if item.at == 0 and not item.strength
        )
        opening = Window(prompt=window.prompt, frames=1, references=beginning, shown=(0, 0))
        windows = [opening, replace(window, overlap=1)]
    return (*windows[:-1], replace(windows[-1], frames=request.frames + 1, closing=1))


def _extend(task: Extend, request: Request) -> Plan:
    if task.backwards:
        return _extend_backwards(task, request)
    if request.loop:
        return _extend_loop(task, request)
    count, keep = _kept_of(task.clip, task.keep, request)
    end = Reference(path=task.clip, first=count - keep, frames=keep)
    windows = _segments(request, (end,))
    return Plan(windows=windows, before=Footage(path=task.clip, frames=count, blend=keep))


def _extend_loop(task: Extend, request: Request) -> Plan:
    """On from the clip's end and back to its beginning, which is not shown a second time."""
    _one_segment(request, "a clip that loops")
    there_and_back = Connect(start=task.clip, end=task.clip, keep=task.keep)
    plan = _connect(there_and_back, replace(request, loop=False))
    blend = 0 if plan.after is None else plan.after.blend
    window = replace(plan.windows[0], shown=(0, request.frames - blend))
    return Plan(windows=(window,), before=plan.before)


def _extend_backwards(task: Extend, request: Request) -> Plan:
    _one_segment(request, "extending backwards")
    if request.loop:
        raise ConfigError("a loop goes forwards; leave out --backwards")
    count, keep = _kept_of(task.clip, task.keep, request)
    start = Reference(path=task.clip, first=0, at=request.frames - keep, frames=keep)
    return Plan(windows=_segments(request, (start,)), after=Footage(path=task.clip, frames=count, blend=keep))


def _connect(task: Connect, request: Request) -> Plan:
    """A clip is shown whole, a picture as the first or last frame of the window."""
    _one_segment(request, "connecting")
    first, before = _side(task.start, task.keep, request, ends=True)
    last, after = _side(task.end, task.keep, request, ends=False)
    if (first.frames or 1) + (last.frames or 1) >= request.frames:
        raise ConfigError(
            f"{request.frames} frames leave none between what is given; ask for more frames or keep fewer"
        )
    return Plan(windows=_segments(request, (first, last)), before=before, after=after)


def _side(path: Path, keep: int | None, request: Request, *, ends: bool) -> tuple[Reference, Footage | None]:
    """What is given on one side of a connection: the end of the first file or the start of the second."""
    if is_picture(path):
        return Reference(path=path, at=0 if ends else request.frames - 1, frames=1), None
    count, kept = _kept_of(path, keep, request)
    at, first = (0, count - kept) if ends else (request.frames - kept, 0)
    reference = Reference(path=path, first=first, at=at, frames=kept)
    return reference, Footage(path=path, frames=count, blend=kept)


def _edit(task: Edit, request: Request) -> Plan:
    """The whole clip in windows; each begins with the end of the one before, as it was edited."""
    if request.loop or len(request.prompts) > 1:
        raise ConfigError("an edit is as long as its clip; leave out --loop and --segments")
    count = frames_in(task.clip, request.fps)
    for first, last in task.fill:
        if last >= count:
            raise ConfigError(
                f"{task.clip.name} has frames 0 to {count - 1} at this rate, not {first}-{last}"
            )
    windows, made = list[Window](), 0
    while made < count:
        # More is taken over in the last window, which is as long as the others; packed frames leave it short.
        missing = made - (count - request.frames) if request.grid.factor == 1 else 0
        overlap = max(request.kept, missing) if made else 0
        start = made - overlap
        frames = min(request.frames, count - start)
        windows.append(
            Window(
                prompt=request.prompts[0],
                frames=frames,
                references=_edited(task, start, frames),
                overlap=overlap,
                shown=(overlap, frames),
            )
        )
        made = start + frames
    return Plan(windows=tuple(windows))


def _edited(task: Edit, start: int, frames: int) -> tuple[Reference, ...]:
    def span(first: int, last: int, strength: float) -> Reference:
        return Reference(
            path=task.clip, first=first, at=first - start, frames=last - first + 1, strength=strength
        )

    stop = start + frames - 1
    inside = [(max(first, start), min(last, stop)) for first, last in task.fill]
    changed = [span(first, last, task.strength) for first, last in inside if first <= last]
    return (span(start, stop, 0.0 if task.fill else task.strength), *changed)


def _interpolate(task: Interpolate, request: Request) -> Plan:
    """Windows from key frame to key frame; the key frame between two windows belongs to both."""
    if request.loop or len(request.prompts) > 1:
        raise ConfigError("interpolation ends with its last frame; leave out --loop and --segments")
    keys = _key_frames(task, request)
    intervals = max(1, (request.frames - 1) // task.factor)
    windows = []
    for start in range(0, len(keys) - 1, intervals):
        inside = keys[start : start + intervals + 1]
        frames = (len(inside) - 1) * task.factor + 1
        references = tuple(replace(key, at=number * task.factor) for number, key in enumerate(inside))
        windows.append(
            Window(
                prompt=request.prompts[0],
                frames=frames,
                references=references,
                shown=(1 if start else 0, frames),
            )
        )
    return Plan(windows=tuple(windows))


def _key_frames(task: Interpolate, request: Request) -> list[Reference]:
    if len(task.sources) == 1:
        clip = task.sources[0]
        count = frames_in(clip, request.fps / task.factor)
        keys = [Reference(path=clip, first=index * task.factor, frames=1) for index in range(count)]
    else:
        keys = [Reference(path=path, frames=1) for path in task.sources]
    if len(keys) < 2:
        raise ConfigError(f"{task.sources[0].name} has one frame; give a clip, or two pictures or more")
    return keys


def _kept_of(clip: Path, keep: int | None, request: Request) -> tuple[int, int]:
    """Frames of a clip, and how many of them the window is given, in whole latent frames."""
    count = frames_in(clip, request.fps)
    if keep is not None and keep < 1:
        raise ConfigError(f"keep must be at least 1 frame, got {keep}")
    asked = max(1, request.frames // 4) if keep is None else keep
    if keep is not None and keep > count:
        raise ConfigError(f"{clip.name} has {count} frames at {request.fps:g} per second; keep at most those")
    kept = min(request.grid.up(asked), request.grid.down(count))
    if kept >= request.frames:
        raise ConfigError(
            f"keeping {kept} of {request.frames} frames leaves none to make; ask for more frames"
        )
    return count, kept


def _one_segment(request: Request, what: str) -> None:
    if len(request.prompts) > 1:
        raise ConfigError(f"{what} is one segment; leave out --segments")
