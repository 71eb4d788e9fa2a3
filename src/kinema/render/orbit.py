"""A camera that goes once around a mesh, and the pictures it takes."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from kinema.render.color import to_linear, to_srgb
from kinema.render.light import light_at
from kinema.render.mesh import Mesh, Texture
from kinema.render.raster import barycentric, visible_faces


@dataclass(frozen=True, kw_only=True)
class Camera:
    """It looks at the origin from `azimuth` and `elevation` degrees; azimuth 0 is in front (+z), 90 on the
    object's left hand side (+x), elevation above the horizon. The unit sphere just fits into its square
    picture."""

    azimuth: float
    elevation: float
    field_of_view: float = 40.0

    @property
    def distance(self) -> float:
        """From the origin; a little air is left around the sphere."""
        return 1.05 / float(np.sin(np.radians(self.field_of_view / 2)))

    def axes(self) -> Float[np.ndarray, "3 3"]:
        """Right, up and towards the camera."""
        a, e = np.radians(self.azimuth), np.radians(self.elevation)
        right = [np.cos(a), 0, -np.sin(a)]
        up = [-np.sin(a) * np.sin(e), np.cos(e), -np.cos(a) * np.sin(e)]
        back = [np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)]
        return np.array([right, up, back])


@dataclass(frozen=True, kw_only=True)
class Picture:
    """`size` pixels square, of `samples` squared points a pixel; `background` is sRGB from 0 to 1."""

    size: int
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    samples: int = 2


def orbit(start: float, elevation: float, frames: int) -> list[Camera]:
    """Once around, the last step leading back to the first camera."""
    return [Camera(azimuth=(start + 360 * at / frames) % 360, elevation=elevation) for at in range(frames)]


@dataclass(frozen=True)
class _Seen:
    """Covered pixels: their place in the picture, triangle and corner weights."""

    pixels: Int[np.ndarray, " n"]
    faces: Int[np.ndarray, " n"]
    weights: Float[np.ndarray, "n 3"]
    screen: Float[np.ndarray, "f 3 2"]

    def mixed(self, of_corners: Float[np.ndarray, "f 3 d"]) -> Float[np.ndarray, "n d"]:
        """A value of the corners at each pixel."""
        mixed: Float[np.ndarray, "n d"] = (of_corners[self.faces] * self.weights[:, :, None]).sum(axis=1)
        return mixed


def render(
    mesh: Mesh,
    camera: Camera,
    light: Float[np.ndarray, "9 3"],
    picture: Picture,
) -> UInt8[np.ndarray, "size size 3"]:
    """`light` is `light.irradiance` of an environment."""
    side, size = picture.size * picture.samples, picture.size
    seen = _see(mesh, camera, side)
    canvas = np.broadcast_to(to_linear(np.array(picture.background)), (side * side, 3)).copy()
    canvas[seen.pixels] = np.minimum(_albedo(mesh, seen) * light_at(light, _normals(mesh, seen, camera)), 1)
    # The mean of light rather than of pixel values: edges keep their weight.
    small = cv2.resize(canvas.reshape(side, side, 3), (size, size), interpolation=cv2.INTER_AREA)
    return np.asarray(np.round(to_srgb(small) * 255), np.uint8)


def _see(mesh: Mesh, camera: Camera, side: int) -> _Seen:
    eye = mesh.corners @ camera.axes().T
    nearness = 1 / (camera.distance - eye[..., 2])
    focal = side / 2 / np.tan(np.radians(camera.field_of_view / 2))
    flat = eye[..., :2] * nearness[..., None] * focal
    screen = side / 2 + flat * np.array([1, -1])
    faces = visible_faces(screen, nearness, side, side).ravel()
    pixels = np.flatnonzero(faces >= 0)
    of = faces[pixels]
    points = np.stack([pixels % side + 0.5, pixels // side + 0.5], axis=1)
    return _Seen(pixels, of, barycentric(screen[of], nearness[of], points), screen)


def _normals(mesh: Mesh, seen: _Seen, camera: Camera) -> Float[np.ndarray, "n 3"]:
    """Unit normals on the side that is seen, whichever way the triangle is wound."""
    normals = seen.mixed(mesh.normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    towards = camera.axes()[2] * camera.distance - seen.mixed(mesh.corners)
    corners = mesh.corners[seen.faces]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    behind = (flat * towards).sum(axis=1) * (flat * normals).sum(axis=1) < 0
    return np.where(behind[:, None], -normals, normals)


def _albedo(mesh: Mesh, seen: _Seen) -> Float[np.ndarray, "n 3"]:
    albedo = seen.mixed(mesh.colors)
    uv = seen.mixed(mesh.uv)
    for number, levels in enumerate(mesh.textures):
        of_face = np.where(mesh.texture == number, _level(mesh, seen, levels), -1)
        of = of_face[seen.faces]
        for level in np.unique(of[of >= 0]):
            here = of == level
            albedo[here] *= _sample(levels[level], uv[here])
    return albedo


def _level(mesh: Mesh, seen: _Seen, levels: Texture) -> Int[np.ndarray, " f"]:
    """How often the texture is to be halved for each triangle, so that a pixel is about a texel."""
    texels = _area(mesh.uv) * levels[0].shape[0] * levels[0].shape[1]
    ratio = np.maximum(texels / np.maximum(_area(seen.screen), 1e-9), 1)
    return np.asarray(np.round(0.5 * np.log2(ratio)).clip(0, len(levels) - 1), np.int64)


def _area(corners: Float[np.ndarray, "f 3 2"]) -> Float[np.ndarray, " f"]:
    one, other = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    return np.asarray(np.abs(one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]) / 2)


def _sample(texture: UInt8[np.ndarray, "h w 3"], uv: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Linear, between the four texels around each place; the texture repeats."""
    height, width = texture.shape[:2]
    x, y = (uv[:, 0] % 1) * width - 0.5, ((1 - uv[:, 1]) % 1) * height - 0.5
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    across, down = (x - left)[:, None], (y - top)[:, None]
    columns, rows = (left % width, (left + 1) % width), (top % height, (top + 1) % height)
    upper, lower = (
        _LINEAR[texture[row, columns[0]]] * (1 - across) + _LINEAR[texture[row, columns[1]]] * across
        for row in rows
    )
    return np.asarray(upper * (1 - down) + lower * down)


_LINEAR = to_linear(np.arange(256) / 255)
