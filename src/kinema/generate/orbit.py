"""Once around what a picture shows."""

from __future__ import annotations

from dataclasses import replace

from kinema.generate.pipeline import GenerateConfig


def around(config: GenerateConfig) -> GenerateConfig:
    """The request with the guidance of orbits, where it names no other.

    The picture is the first frame and the last one's neighbour, so that guidance is strongest opposite of it.
    """
    return replace(
        config,
        guidance_shape=config.guidance_shape or "triangle",
        guidance_first=1.0 if config.guidance_first is None else config.guidance_first,
    )
