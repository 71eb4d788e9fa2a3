"""One function a command: read the config, run the owner, show the summary.

What a command needs is imported inside it, so that `kinema --help` answers at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from kinema import __version__
from kinema.cli.terminal import Bars, show
from kinema.errors import ConfigError

app = App(
    name="kinema",
    help="Raw footage to a video diffusion model, and the model to video.",
    help_epilogue="Start with: kinema demo. More on one command: kinema COMMAND --help",
    version=__version__,
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    help_format="plaintext",
)

Sets = Annotated[
    tuple[str, ...],
    Parameter(
        name="--set", negative=(), help="KEY=VALUE: set one key of the config, in TOML; may be given again."
    ),
]
Json = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print the summary as one JSON object on the last line.")
]
Config = Annotated[Path | None, Parameter(name="--config", help="A TOML file with the settings.")]
Dataset = Annotated[Path, Parameter(name="--dataset", help="A folder that kinema curate wrote.")]
Recipe = Annotated[
    str | None, Parameter(help="A TOML file, or the name of a recipe that comes with kinema, such as demo.")
]
Model = Annotated[
    Path | None,
    Parameter(
        name="--model",
        help="A model folder, or that of a training run; the small one inside kinema when left out.",
    ),
]
Prompt = Annotated[str, Parameter(name="--prompt", help="What the video shows.")]
OptionalPrompt = Annotated[
    str, Parameter(name="--prompt", help="What the video shows; not for models that are shown pictures.")
]
Target = Annotated[Path, Parameter(name="--out", help="The file to write: .mp4, or .png for one frame.")]
"""The flags that several commands share."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The flags of every command that makes video."""

    frames: Annotated[int | None, Parameter(help="Frames to make; as in training when left out.")] = None
    height: Annotated[int | None, Parameter(help="Pixels; as in training when left out.")] = None
    width: Annotated[int | None, Parameter(help="Pixels; as in training when left out.")] = None
    fps: Annotated[float | None, Parameter(help="Frames per second; as in training when left out.")] = None
    steps: Annotated[int | None, Parameter(help="Steps of the sampler: more is finer and slower.")] = None
    sampler: Annotated[
        Literal["ancestral", "ddim", "euler", "heun", "dpmpp-2m"] | None,
        Parameter(help="How to sample: dpmpp-2m needs the fewest steps."),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        Parameter(help="What the network multiplies in; bf16 is faster where the processor has it."),
    ] = None
    guidance_scale: Annotated[
        float | None, Parameter(help="How hard to follow the prompt; 1 is no guidance.")
    ] = None
    guidance_first: Annotated[
        float | None, Parameter(help="That of the first frame, from where it grows; the same when left out.")
    ] = None
    guidance_shape: Annotated[
        Literal["linear", "triangle"] | None,
        Parameter(help="Where it is highest: in the last frame, or in the middle, for orbits."),
    ] = None
    guidance_given: Annotated[
        float | None, Parameter(help="That of videos with given frames; the model's own when left out.")
    ] = None
    keep_given: Annotated[
        float | None,
        Parameter(help="Take from given frames what comes this close to them: 0 nothing, 0.15 a good deal."),
    ] = None
    parts_apart: Annotated[
        float | None,
        Parameter(
            help="Share of the steps in which each thing of a prompt is made by itself; 0: all as one."
        ),
    ] = None
    motion_guidance: Annotated[
        float | None,
        Parameter(help="Push away from the prompt with everything at rest: 0 not at all, 3 firmly."),
    ] = None
    camera: Annotated[
        Literal["static", "pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out"] | None,
        Parameter(help="How a camera moves over what is made; as the prompt says when left out."),
    ] = None
    motion: Annotated[
        float | None, Parameter(help="How much moves, 0 to 255; 127 is the middle of what it was trained on.")
    ] = None
    augmentation: Annotated[
        float | None, Parameter(help="Noise on the picture that is shown to the network; 0.02 when left out.")
    ] = None
    seed: Annotated[int | None, Parameter(help="The same seed gives the same video.")] = None
    lora: Annotated[
        tuple[str, ...],
        Parameter(name="--lora", negative=(), help="PATH or PATH:WEIGHT of a LoRA; may be given again."),
    ] = ()
    lora_guidance: Annotated[
        float | None,
        Parameter(help="Push away from what is made without the LoRAs: 1 not at all, 3 to 7 firmly."),
    ] = None
    offload: Annotated[
        bool,
        Parameter(negative=(), help="Keep the encoders in main memory while the network samples on a GPU."),
    ] = False
    compile: Annotated[
        bool, Parameter(negative=(), help="Compile the network first: for many prompts or steps.")
    ] = False


Flags = Annotated[Sampling | None, Parameter(name="*")]


@app.command(help_epilogue="Example: kinema curate ~/Videos --out dataset --set cuts.threshold=24")
def curate(
    *footage: Annotated[
        str, Parameter(help="Files, folders, globs, lists (.txt, .csv, .parquet), s3://bucket/prefix/.")
    ],
    out: Annotated[Path, Parameter(name="--out", help="The dataset folder to write.")],
    engine: Annotated[
        Literal["local", "ray"] | None, Parameter(help="Processes of this machine, or a Ray cluster.")
    ] = None,
    config: Config = None,
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Find the clips in footage, score them, and write a dataset; the footage itself is only read."""
    from kinema.config import load_config
    from kinema.curate.pipeline import CurateConfig
    from kinema.curate.pipeline import curate as run

    if not footage:
        raise ConfigError(
            "no footage is given; name files or folders, for example: kinema curate ~/Videos --out dataset"
        )
    settings = load_config(CurateConfig, config, set_, {"engine": engine})
    with Bars() as bars:
        summary = run(footage, out, settings, bars)
    show(summary.as_dict(), as_json=json)
    return int(not summary.is_complete(settings.max_failed_share))


@app.command(help_epilogue="Example: kinema demo --footage ~/Videos --out demo")
def demo(
    *,
    footage: Annotated[
        Path | None, Parameter(name="--footage", help="Your own files; the sample clips when left out.")
    ] = None,
    out: Annotated[Path, Parameter(name="--out", help="The folder for everything that is made.")] = Path(
        "demo"
    ),
    set_: Sets = (),
    json: Json = False,
) -> int:
    """Run the whole flow small: curate, plan, train, generate, and one page that shows it."""
    from kinema.config import find_recipe, load_config
    from kinema.demo.flow import run_demo
    from kinema.train.loop import TrainConfig

    recipe = load_config(TrainConfig, find_recipe("demo"), set_)
    with Bars() as bars:
        summary = run_demo(footage, out, recipe, bars)
    show(summary, as_json=json)
    return 0
