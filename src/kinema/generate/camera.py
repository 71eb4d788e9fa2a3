"""The camera of a video: asked for by name, or by the prompt where the model leaves that to a virtual one."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from kinema.encoders.protocols import Parting
from kinema.errors import ConfigError
from kinema.generate.config import GenerateConfig
from kinema.generate.tasks import Animate, FromText
from kinema.model import Model
from kinema.motion import CameraMove

_log = logging.getLogger(__name__)
_WHERE = "videos from a prompt or one picture, without loop or references"


def can_be_filmed(config: GenerateConfig, frames: int) -> bool:
    """Whether a camera may move over what is asked for. Raises `ConfigError` where it may not, but should."""
    match config.asked:
        case FromText(references=()) | Animate():
            possible = frames > 1 and not config.loop
        case _:
            possible = False
    if config.camera not in (None, "static") and not possible:
        raise ConfigError(f"the camera move {config.camera} is for {_WHERE}")
    return possible


def filmed(
    prompts: Sequence[str], config: GenerateConfig, model: Model, frames: int
) -> tuple[tuple[str, ...], CameraMove | None]:
    """The prompts without what a virtual camera does, and its move; None where it stands still.

    A move that a prompt asks for where none can be made is named in a warning.
    Raises `ConfigError` for a move that cannot be made, and for two moves in one video.
    """
    asked, possible = config.camera, can_be_filmed(config, frames)
    if not (model.sampling.virtual_camera and isinstance(model.text_encoder, Parting)):
        return tuple(prompts), None if asked == "static" else asked
    shots = [model.text_encoder.shot(prompt) for prompt in prompts]
    moves = tuple(dict.fromkeys(move for shot in shots for move in shot.moves))
    if possible:
        if asked is None and len(moves) > 1:
            raise ConfigError(f"a video has one camera move; the prompt asks for {' and '.join(moves)}")
        asked = asked or next(iter(moves), None)
        seen = asked is not None and asked != "static" and isinstance(config.asked, FromText)
        prompts = [shot.over_ground if seen else shot.caption for shot in shots]
    elif moves and frames > 1:
        _log.warning("no camera moves (%s): that is for %s", ", ".join(moves), _WHERE)
    return tuple(prompts), None if asked == "static" else asked
