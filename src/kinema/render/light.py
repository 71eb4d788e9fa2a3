"""Light from all around: an environment map as nine numbers a colour (Ramamoorthi and Hanrahan 2001)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from kinema.errors import DecodeError
from kinema.render.color import to_linear

_ROWS = 32
_BRIGHTNESS = 0.7
Environment = Float[np.ndarray, "h w 3"]
"""Linear radiance, equirectangular: the first row is straight up, the middle column faces +z."""


def irradiance(environment: Environment) -> Float[np.ndarray, "9 3"]:
    """Coefficients of the light that a matt surface returns, by the direction it faces (divided by pi)."""
    directions, solid = _sphere(*environment.shape[:2])
    basis = _harmonics(directions) * solid[:, None]
    shares = np.array([1, *[2 / 3] * 3, *[1 / 4] * 5])
    light: Float[np.ndarray, "9 3"] = shares[:, None] * (basis.T @ environment.reshape(-1, 3))
    return light


def light_at(
    coefficients: Float[np.ndarray, "9 3"], normals: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "n 3"]:
    """What surfaces with these unit normals return of white light; never quite dark."""
    light: Float[np.ndarray, "n 3"] = np.maximum(_harmonics(normals) @ coefficients, 0.02)
    return light


def random_environment(generator: np.random.Generator) -> Environment:
    """A sky over a ground, with one to four lamps; its mean brightness is 0.7, so that little is clipped."""
    directions, solid = _sphere(_ROWS, 2 * _ROWS)
    height = directions[:, 1:2]
    zenith, horizon, ground = (_tint(generator, 0.25) for _ in range(3))
    sky = horizon + (zenith * generator.uniform(0.4, 1.2) - horizon) * np.clip(height, 0, 1)
    radiance = np.where(height > 0, sky, ground * generator.uniform(0.15, 0.6))
    for _ in range(int(generator.integers(1, 5))):
        towards = generator.normal(size=3)
        towards[1] = abs(towards[1]) * 0.8 + 0.2
        towards /= np.linalg.norm(towards)
        lobe = np.exp(generator.uniform(4, 20) * (directions @ towards - 1))[:, None]
        power = generator.uniform(0.3, 1.0) / (lobe[:, 0] * solid).sum() * 4 * np.pi
        radiance = radiance + power * lobe * _tint(generator, 0.3)
    mean = (radiance.mean(axis=1) * solid).sum() / (4 * np.pi)
    scaled: Environment = (_BRIGHTNESS * radiance / mean).reshape(_ROWS, 2 * _ROWS, 3)
    return scaled


def read_environment(path: Path) -> Environment:
    """An equirectangular picture (.hdr, or .png and .jpg as sRGB), scaled to a mean brightness of 0.7."""
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_COLOR)
    if picture is None:
        raise DecodeError(f"{path} cannot be read as an environment map; give an .hdr or .png")
    largest = {"uint8": 255, "uint16": 65535}.get(str(picture.dtype))
    linear = np.asarray(picture) if largest is None else to_linear(np.asarray(picture) / largest)
    small = cv2.resize(linear.astype(np.float32), (2 * _ROWS, _ROWS), interpolation=cv2.INTER_AREA)
    radiance = np.asarray(small[:, :, ::-1], np.float64)
    _, solid = _sphere(_ROWS, 2 * _ROWS)
    mean = (radiance.mean(axis=2).ravel() * solid).sum() / (4 * np.pi)
    if not mean > 0:
        raise DecodeError(f"{path} is black; it lights nothing")
    return np.asarray(_BRIGHTNESS * radiance / mean)


def _tint(generator: np.random.Generator, spread: float) -> Float[np.ndarray, " 3"]:
    """A colour near white."""
    return np.asarray(1 + spread * generator.normal(size=3)).clip(0.3, 1.7)


def _sphere(rows: int, columns: int) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"]]:
    """Direction and solid angle of each pixel of a map."""
    polar = (np.arange(rows) + 0.5) / rows * np.pi
    around = ((np.arange(columns) + 0.5) / columns * 2 - 1) * np.pi
    polar, around = (part.ravel() for part in np.meshgrid(polar, around, indexing="ij"))
    directions = np.stack(
        [np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], axis=1
    )
    solid = np.sin(polar)
    return directions, solid * 4 * np.pi / solid.sum()


def _harmonics(directions: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 9"]:
    """Real spherical harmonics up to degree 2."""
    x, y, z = directions.T
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z**2 - 1),
            1.092548 * x * z,
            0.546274 * (x**2 - y**2),
        ],
        axis=1,
    )
