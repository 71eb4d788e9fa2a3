"""What the model that comes with kinema makes, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinema.generate.batch import generate_all
from kinema.generate.pipeline import GenerateConfig
from kinema.generate.prompts import PromptLine
from kinema.location import embedded_model
from kinema.progress import Progress

PROMPTS = (
    "a large red circle moves left",
    "a green star grows",
    "a red star moves left, a blue circle shrinks",
    "a white ring on a checkered background, the camera zooms out",
)


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A prompt, and the video that was made of it; `video` is relative to the demo's folder."""

    prompt: str
    video: str


def specimens(out: Path, progress: Progress) -> list[Specimen]:
    """A video for each of `PROMPTS` in `out`/box; those that are there already are kept."""
    lines = [
        PromptLine(where=f"the demo's {prompt!r}", config=GenerateConfig(prompt=prompt)) for prompt in PROMPTS
    ]
    generate_all(embedded_model(), lines, out / "box", batch_size=len(lines), progress=progress)
    return [Specimen(prompt=prompt, video=f"box/{number:03}.mp4") for number, prompt in enumerate(PROMPTS)]
