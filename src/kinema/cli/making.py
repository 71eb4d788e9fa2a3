"""The commands that make video: from text, pictures and clips."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from kinema.cli.commands import Flags, Json, Model, OptionalPrompt, Prompt, Sampling, Target, app
from kinema.cli.terminal import Bars, show
from kinema.errors import ConfigError

if TYPE_CHECKING:
    from kinema.generate.pipeline import GenerateConfig
    from kinema.generate.tasks import Task


@dataclass(frozen=True, kw_only=True)
class Length:
    """The flags of the commands whose videos can go on and on."""

    segments: Annotated[
        int | None, Parameter(help="How many times to go on; each begins with the end of the one before.")
    ] = None
    overlap: Annotated[
        int | None, Parameter(help="Frames taken over from segment to segment; a quarter when left out.")
    ] = None
    loop: Annotated[bool, Parameter(negative=(), help="End where the video begins.")] = False


@dataclass(frozen=True, kw_only=True)
class Given:
    """The flags for frames that are given, and for many prompts."""

    image: Annotated[Path | None, Parameter(help="A picture that is the first frame.")] = None
    reference: Annotated[str | None, Parameter(help="Pictures and clips, joined by semicolons.")] = None
    mask_strategy: Annotated[
        str | None,
        Parameter(help="Where they go: loop,reference,first,at,frames,strength; groups joined by semicolons"),
    ] = None
    prompts: Annotated[
        Path | None, Parameter(help="A .txt or .csv file of prompts; --out is then a folder.")
    ] = None
    batch_size: Annotated[int, Parameter(help="Prompts in one forward pass.")] = 4


Lengths = Annotated[Length | None, Parameter(name="*")]
Keep = Annotated[int | None, Parameter(name="--keep", help="Frames of the clip that are shown to the model.")]
Clip = Annotated[Path, Parameter(help="A video.")]


@app.command(help_epilogue='Example: kinema generate --model run --prompt "a wet street" --out street.mp4')
def generate(
    *,
    model: Model = None,
    out: Annotated[
        Path, Parameter(name="--out", help="The file to write: .mp4, or .png for one frame; or a folder.")
    ],
    prompt: Annotated[str | None, Parameter(name="--prompt", help="What the video shows.")] = None,
    given: Annotated[Given | None, Parameter(name="*")] = None,
    length: Lengths = None,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Make a video, or a picture, from a prompt; or many, from a file of prompts."""
    from kinema.generate.prompts import with_references

    given = given or Given()
    if given.prompts is not None:
        if prompt is not None:
            raise ConfigError("--prompt and --prompts are both given; leave one out")
        return _generate_all(model, given, out, _flags(length, sampling), json=json)
    if prompt is None:
        raise ConfigError('no prompt is given; say what to show, such as --prompt "a rabbit in the grass"')
    text, task = with_references(prompt, given.reference or "", given.mask_strategy)
    config = _config(text, length, sampling, image=given.image)
    return _run(model, config if task is None else replace(config, task=task), out, json=json)


@app.command(
    help_epilogue='Example: kinema animate street.jpg --model run --prompt "a wet street" --out street.mp4'
)
def animate(
    image: Annotated[Path, Parameter(help="The picture that is the first frame.")],
    /,
    *,
    model: Model = None,
    out: Target,
    prompt: OptionalPrompt = "",
    length: Lengths = None,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Make a picture move: generate with the picture as the first frame."""
    return _run(model, _config(prompt, length, sampling, image=image), out, json=json)


@app.command(help_epilogue="Example: kinema orbit chair.png --model orbits --elevation 10 --out chair.mp4")
def orbit(
    image: Annotated[Path, Parameter(help="A picture of one object.")],
    /,
    *,
    model: Model,
    out: Target,
    elevation: Annotated[
        float | None, Parameter(help="Degrees from which the picture looks down on it, -5 to 30.")
    ] = None,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Go once around what a picture shows, with a model that was trained on orbits."""
    from kinema.generate.orbit import around

    config = _config("", None, sampling, image=image, elevation=elevation)
    return _run(model, around(config), out, json=json)


@app.command(
    help_epilogue='Example: kinema extend walk.mp4 --model run --prompt "a man walks" --out longer.mp4'
)
def extend(
    clip: Clip,
    /,
    *,
    model: Model = None,
    prompt: Prompt,
    out: Target,
    backwards: Annotated[
        bool, Parameter(name="--backwards", negative=(), help="Make what came before.")
    ] = False,
    keep: Keep = None,
    length: Lengths = None,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Make a clip longer, at its end or its beginning, or until it comes back to its beginning (--loop)."""
    from kinema.generate.tasks import Extend

    task = Extend(clip=clip, backwards=backwards, keep=keep)
    return _run(model, _config(prompt, length, sampling, task=task), out, json=json)


@app.command(
    help_epilogue='Example: kinema connect a.mp4 b.mp4 --model run --prompt "a street" --out whole.mp4'
)
def connect(
    start: Annotated[Path, Parameter(help="A clip or a picture to begin with.")],
    end: Annotated[Path, Parameter(help="A clip or a picture to end with.")],
    /,
    *,
    model: Model = None,
    prompt: Prompt,
    out: Target,
    keep: Keep = None,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Make what lies between two clips or pictures."""
    from kinema.generate.tasks import Connect

    task = Connect(start=start, end=end, keep=keep)
    return _run(model, _config(prompt, None, sampling, task=task), out, json=json)


@app.command(
    help_epilogue='Example: kinema edit walk.mp4 --model run --prompt "a robot walks" --out robot.mp4'
)
def edit(
    clip: Clip,
    /,
    *,
    model: Model = None,
    prompt: Prompt,
    out: Target,
    strength: Annotated[
        float | None,
        Parameter(name="--strength", help="0 leaves a frame, 1 forgets it; 0.6, and 1 with --fill."),
    ] = None,
    fill: Annotated[
        str | None,
        Parameter(name="--fill", help="Only these frames, counted from 0, such as 4-9,12; keep the others."),
    ] = None,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Make a clip again after a prompt, all of it or chosen frames."""
    from kinema.generate.tasks import Edit

    spans = () if fill is None else _spans(fill)
    amount = strength if strength is not None else 1.0 if spans else 0.6
    task = Edit(clip=clip, strength=amount, fill=spans)
    return _run(model, _config(prompt, None, sampling, task=task), out, json=json)


@app.command(
    help_epilogue='Example: kinema interpolate walk.mp4 --model run --prompt "a man walks" --out smooth.mp4'
)
def interpolate(
    *sources: Annotated[Path, Parameter(help="A clip, or pictures in order.")],
    model: Model = None,
    out: Target,
    prompt: OptionalPrompt = "",
    factor: Annotated[
        int, Parameter(name="--factor", help="A given frame and factor - 1 new ones, and so on.")
    ] = 4,
    sampling: Flags = None,
    json: Json = False,
) -> int:
    """Make new frames between those of a clip, or between pictures."""
    from kinema.generate.tasks import Interpolate

    task = Interpolate(sources=sources, factor=factor)
    return _run(model, _config(prompt, None, sampling, task=task), out, json=json)


def _flags(length: Length | None, sampling: Sampling | None) -> dict[str, object]:
    flags = asdict(sampling or Sampling()) | asdict(length or Length())
    return {name: value for name, value in flags.items() if value is not None}


def _config(
    prompt: str,
    length: Length | None,
    sampling: Sampling | None,
    *,
    image: Path | None = None,
    task: Task | None = None,
    elevation: float | None = None,
) -> GenerateConfig:
    from kinema.config import load_config
    from kinema.generate.pipeline import GenerateConfig

    flags = {"prompt": prompt, "image": image, "elevation": elevation, **_flags(length, sampling)}
    whole = None if task is None else asdict(task)  # with its task: a prompt is not asked of all
    return load_config(GenerateConfig, flags=flags | {"task": whole})


def _run(model: Path | None, config: GenerateConfig, out: Path, *, json: bool) -> int:
    from kinema.generate.pipeline import generate as run
    from kinema.location import embedded_model

    with Bars() as bars:
        summary = run(model or embedded_model(), config, out, bars)
    show(summary, as_json=json)
    return 0


def _generate_all(
    model: Path | None, given: Given, out: Path, flags: dict[str, object], *, json: bool
) -> int:
    from kinema.generate.batch import generate_all
    from kinema.generate.prompts import read_prompts
    from kinema.location import embedded_model

    if given.image or given.reference or given.mask_strategy:
        raise ConfigError("with --prompts, pictures and references are columns of a .csv file")
    assert given.prompts is not None
    lines = read_prompts(given.prompts, flags)
    with Bars() as bars:
        summary = generate_all(
            model or embedded_model(), lines, out, batch_size=given.batch_size, progress=bars
        )
    show(summary, as_json=json)
    return 0


def _spans(text: str) -> tuple[tuple[int, int], ...]:
    spans = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise ConfigError(f"--fill {text}: {part!r} is no span of frames; write such as 4-9,12")
        spans.append((int(match[1]), int(match[2] or match[1])))
    return tuple(spans)
