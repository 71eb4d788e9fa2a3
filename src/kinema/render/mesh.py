"""Meshes from files, as a flat list of triangles that can be drawn. Only here is trimesh imported."""

from __future__ import annotations

import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from kinema.errors import ConfigError, DecodeError
from kinema.render.color import to_linear

MESH_SUFFIXES = {".obj", ".glb", ".gltf", ".ply", ".stl", ".off"}
_GREY = 0.6
_CREASE = np.cos(np.radians(50.0))

Corners = Float[np.ndarray, "f 3 3"]
Texture = tuple[UInt8[np.ndarray, "h w 3"], ...]
"""sRGB, each picture half as large as the one before it."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Triangles by their corners, y up, inside the unit sphere about the origin.

    `colors` are linear and are multiplied with the texture at `uv` (origin bottom left) when `texture`, a
    place in `textures`, is not -1.
    """

    corners: Corners
    normals: Corners
    colors: Corners
    uv: Float[np.ndarray, "f 3 2"]
    texture: Int[np.ndarray, " f"]
    textures: tuple[Texture, ...] = ()


def load_mesh(path: Path) -> Mesh:
    """Read a mesh file. Normals that it lacks are made: smooth, but for edges of over 50 degrees.

    Neither closed surfaces nor consistent winding are needed. Raises `DecodeError` when nothing can be drawn.
    """
    parts = [part for part in _parts(path) if len(part.corners)]
    if not parts:
        raise DecodeError(f"{path} has no triangles to draw; give a mesh with faces")
    corners = np.concatenate([part.corners for part in parts])
    low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
    centred = corners - (low + high) / 2
    radius = float(np.linalg.norm(centred, axis=2).max())
    if not radius > 0:
        raise DecodeError(f"{path} has no extent: all its corners are one point")
    textures = [texture for part in parts for texture in part.textures]
    firsts = np.cumsum([0, *(len(part.textures) for part in parts)])
    return Mesh(
        corners=centred / radius,
        normals=np.concatenate([part.normals for part in parts]),
        colors=np.concatenate([part.colors for part in parts]),
        uv=np.concatenate([part.uv for part in parts]),
        texture=np.concatenate(
            [
                np.where(part.texture < 0, -1, part.texture + first)
                for part, first in zip(parts, firsts, strict=False)
            ]
        ),
        textures=tuple(textures),
    )


def _parts(path: Path) -> list[Mesh]:
    """One for each placed geometry of the file."""
    scene = _scene(path)
    found = []
    for node in scene.graph.nodes_geometry:
        place, name = scene.graph[node]
        geometry = scene.geometry[name]
        if hasattr(geometry, "faces") and len(geometry.faces):
            found.append(_part(geometry, np.asarray(place), path.suffix.lower()))
    return found


def _scene(path: Path) -> Any:  # noqa: ANN401 (trimesh has no types)
    try:
        import trimesh
    except ImportError as error:
        raise ConfigError("meshes need the extra `meshes`; pip install 'kinema[meshes]'") from error
    if not path.is_file():
        raise DecodeError(f"{path} does not exist; name a mesh such as .obj or .glb")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of texture files that are missing: the mesh is drawn without
            return trimesh.load_scene(path, process=False)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DecodeError(f"{path} cannot be read as a mesh: {reason}") from error


def _part(geometry: Any, place: Float[np.ndarray, "4 4"], suffix: str) -> Mesh:  # noqa: ANN401
    vertices = np.asarray(geometry.vertices, np.float64)
    corners = vertices @ place[:3, :3].T + place[:3, 3]
    faces = np.asarray(geometry.faces)
    faces = faces[np.isfinite(corners[faces]).all(axis=(1, 2))]
    given = geometry.vertex_normals if "vertex_normals" in geometry._cache else None
    triangles = corners[faces]
    flat = _face_normals(triangles)
    if given is None:
        normals = _smooth_normals(triangles, flat)
    else:
        turned = np.asarray(given) @ np.linalg.pinv(place[:3, :3])
        normals = _unit(turned[faces], flat)
    colors, uv, image = _surface(geometry.visual, faces, suffix)
    textures = () if image is None else (_halved(image),)
    return Mesh(
        corners=triangles,
        normals=normals,
        colors=colors,
        uv=uv,
        texture=np.full(len(faces), len(textures) - 1),
        textures=textures,
    )


def _face_normals(triangles: Corners) -> Float[np.ndarray, "f 3"]:
    """Unit vectors; zero where a triangle has no area."""
    across = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    length = np.linalg.norm(across, axis=1, keepdims=True)
    return across / np.where(length > 0, length, 1)


def _smooth_normals(triangles: Corners, flat: Float[np.ndarray, "f 3"]) -> Corners:
    """At each corner the mean, by area, of those faces there that are turned little from its own."""
    places = np.round(triangles.reshape(-1, 3) / max(float(np.abs(triangles).max(initial=0)), 1e-30), 7)
    _, which, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    which = which.reshape(-1)
    order, first = np.argsort(which, kind="stable"), np.cumsum(counts) - counts
    number = np.repeat(np.arange(len(which)), counts[which])
    begin = np.cumsum(counts[which]) - counts[which]
    other = order[first[which[number]] + np.arange(len(number)) - begin[number]] // 3
    area = np.linalg.norm(
        np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]), axis=1
    )
    near = (flat[number // 3] * flat[other]).sum(axis=1) >= _CREASE
    weighted = flat[other] * (area[other] * near)[:, None]
    total = np.stack([np.bincount(number, weighted[:, axis], len(which)) for axis in range(3)], axis=1)
    return _unit(total.reshape(-1, 3, 3), flat)


def _unit(vectors: Corners, otherwise: Float[np.ndarray, "f 3"]) -> Corners:
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    usable = np.isfinite(length) & (length > 1e-12)
    return np.where(usable, vectors / np.where(usable, length, 1), otherwise[:, None])


def _surface(
    visual: Any,  # noqa: ANN401
    faces: Int[np.ndarray, "f 3"],
    suffix: str,
) -> tuple[Corners, Float[np.ndarray, "f 3 2"], UInt8[np.ndarray, "h w 3"] | None]:
    """Linear colours, texture places and the texture."""
    count = len(faces)
    colors, uv = np.full((count, 3, 3), _GREY), np.zeros((count, 3, 2))
    match visual.kind:
        case "texture":
            image, base = _material(visual.material)
            places = visual.uv
            usable = image is not None and places is not None
            if usable:
                uv = np.nan_to_num(np.asarray(places, np.float64)[faces])
            colors = np.broadcast_to(base, (count, 3, 3)).copy()
            painted = getattr(visual, "vertex_attributes", {}).get("color")
            if painted is not None:
                colors = colors * _as_linear(painted, suffix)[faces]
            return colors, uv, image if usable else None
        case "vertex":
            colors = _as_linear(visual.vertex_colors, suffix)[faces]
        case "face":
            of_face = _as_linear(visual.face_colors, suffix)
            if len(of_face) == count:
                colors = np.repeat(of_face[:, None], 3, axis=1)
        case _:
            pass
    return colors, uv, None


def _as_linear(colors: Any, suffix: str) -> Float[np.ndarray, "n 3"]:  # noqa: ANN401
    """Colours 0..255 (or 0..1 when they are floats); glTF's are linear already."""
    values = np.asarray(colors)
    values = values[:, :3] / (255.0 if values.dtype.kind in "ui" else 1.0)
    return values if suffix in {".glb", ".gltf"} else to_linear(values)


def _material(material: Any) -> tuple[UInt8[np.ndarray, "h w 3"] | None, Float[np.ndarray, " 3"]]:  # noqa: ANN401
    """Its picture, and the linear colour that this is multiplied with."""
    if hasattr(material, "baseColorTexture"):
        factor, picture = material.baseColorFactor, material.baseColorTexture
        base = np.ones(3) if factor is None else np.asarray(factor, np.float64)[:3] / 255
        return _pixels(picture), base
    picture = _pixels(getattr(material, "image", None))
    diffuse = getattr(material, "diffuse", None)
    if picture is not None or diffuse is None:
        # Exporters write any diffuse colour, black too, beside a texture that is meant as it is.
        return picture, np.ones(3) if picture is not None else np.full(3, _GREY)
    return None, to_linear(np.asarray(diffuse, np.float64)[:3] / 255)


def _pixels(picture: Any) -> UInt8[np.ndarray, "h w 3"] | None:  # noqa: ANN401
    if picture is None:
        return None
    try:
        return np.asarray(picture.convert("RGB"), np.uint8)
    except OSError as error:
        _log.warning("a texture cannot be read and is left out: %s", error)
        return None


def _halved(picture: UInt8[np.ndarray, "h w 3"]) -> Texture:
    levels = [picture]
    while max(levels[-1].shape[:2]) > 1:
        height, width = (max(1, side // 2) for side in levels[-1].shape[:2])
        half = cv2.resize(levels[-1], (width, height), interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(half, np.uint8).reshape(height, width, 3))
    return tuple(levels)


def mesh_name(path: Path) -> str:
    """What can be in a file's name."""
    return re.sub(r"[^\w.-]+", "-", path.stem) or "mesh"
