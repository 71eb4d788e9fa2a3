"""The camera of a video: asked for by name, or by the prompt where the model leaves that to a virtual one."""

from __future__ import annotations

from collections.abc import Sequence

from kinema.encoders.protocols import Parting
from kinema.errors import ConfigError
from kinema.generate.config import GenerateConfig
from kinema.generate.tasks import Animate, FromText
from kinema.model import Model
from kinema.motion import CameraMove


def filmed(
    prompts: Sequence[str], config: GenerateConfig, model: Model, frames: int
) -> tuple[tuple[str, ...], CameraMove | None]:
    """The prompts without what a virtual camera does, and its move; None where it stands still.

    Raises `ConfigError` for a move that is asked of something else than a video from text or a picture, and
    for two moves in one video.
    """
    task = config.asked
    possible = frames > 1 and not config.loop and isinstance(task, FromText | Animate)
    possible = possible and not (isinstance(task, FromText) and task.references)
    asked = config.camera
    if asked not in (None, "static") and not possible:
        raise ConfigError(
            f"the camera move {asked} is for videos from a prompt or one picture, without loop or references"
        )
    if possible and model.sampling.virtual_camera and isinstance(model.text_encoder, Parting):
        shots = [model.text_encoder.shot(prompt) for prompt in prompts]
        moves = tuple(dict.fromkeys(move for shot in shots for move in shot.moves))
        if asked is None and len(moves) > 1:
            raise ConfigError(f"a video has one camera move; the prompt asks for {' and '.join(moves)}")
        asked = asked or next(iter(moves), None)
        seen = asked is not None and asked != "static" and isinstance(task, FromText)
        prompts = [shot.over_ground if seen else shot.caption for shot in shots]
    return tuple(prompts), None if asked == "static" else asked
