"""Meshes: where they end up, normals that are made, colours and textures, what cannot be drawn."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.errors import DecodeError
from kinema.render.mesh import load_mesh

trimesh = pytest.importorskip("trimesh", reason="meshes need the extra `meshes`")
from PIL import Image  # noqa: E402 (after the skip)


def write(path, text):
    path.write_text(text)
    return path


QUAD = "v 0 0 0\nv 2 0 0\nv 2 1 0\nv 0 1 0\nf 1 2 3\nf 1 3 4\n"


def test_a_mesh_fits_the_unit_sphere_about_the_origin(tmp_path):
    mesh = load_mesh(write(tmp_path / "quad.obj", QUAD))
    assert np.linalg.norm(mesh.corners, axis=2).max() == pytest.approx(1)
    np.testing.assert_allclose((mesh.corners.min((0, 1)) + mesh.corners.max((0, 1))) / 2, 0, atol=1e-12)
    np.testing.assert_allclose(np.abs(mesh.normals), [[[0, 0, 1]] * 3] * 2, atol=1e-12)


def test_made_normals_are_smooth_on_a_ball_and_sharp_on_a_box(tmp_path):
    trimesh.creation.icosphere(subdivisions=3).export(tmp_path / "ball.stl")  # triangles that share nothing
    ball = load_mesh(tmp_path / "ball.stl")
    np.testing.assert_allclose(ball.normals, ball.corners, atol=0.02)
    trimesh.creation.box().export(tmp_path / "box.stl")
    box = load_mesh(tmp_path / "box.stl")
    np.testing.assert_allclose(np.abs(box.normals).max(axis=2), 1)


def test_normals_of_the_file_are_kept(tmp_path):
    text = QUAD.replace("f 1 2 3", "f 1//1 2//1 3//1").replace("f 1 3 4", "f 1//1 3//1 4//1")
    mesh = load_mesh(write(tmp_path / "quad.obj", "vn 0 1 0\n" + text))
    np.testing.assert_allclose(mesh.normals, np.broadcast_to([0, 1, 0], (2, 3, 3)))


def test_a_texture_and_a_colour_are_found(tmp_path):
    Image.new("RGB", (4, 2), (255, 0, 0)).save(tmp_path / "red.png")
    write(tmp_path / "m.mtl", "newmtl red\nKd 0 0 0\nmap_Kd red.png\n")
    text = "mtllib m.mtl\nusemtl red\nvt 0 0\nvt 1 0\nvt 1 1\nv 0 0 0\nv 1 0 0\nv 1 1 0\nf 1/1 2/2 3/3\n"
    mesh = load_mesh(write(tmp_path / "t.obj", text))
    assert [level.shape for level in mesh.textures[0]] == [(2, 4, 3), (1, 2, 3), (1, 1, 3)]
    assert (mesh.textures[0][0] == (255, 0, 0)).all()
    assert mesh.texture.tolist() == [0]
    np.testing.assert_allclose(mesh.colors, 1)  # a black diffuse colour beside a texture means nothing
    write(tmp_path / "m.mtl", "newmtl red\nKd 1 0 0\n")
    plain = load_mesh(write(tmp_path / "p.obj", text))
    assert plain.texture.tolist() == [-1]
    np.testing.assert_allclose(plain.colors[0, 0], [1, 0, 0], atol=1e-6)


def test_colours_of_corners_are_found(tmp_path):
    ball = trimesh.creation.icosphere(subdivisions=1)
    ball.visual.vertex_colors = np.tile([0, 255, 0, 255], (len(ball.vertices), 1))
    ball.export(tmp_path / "ball.ply")
    np.testing.assert_allclose(
        load_mesh(tmp_path / "ball.ply").colors, np.broadcast_to([0, 1, 0], (80, 3, 3))
    )


def test_placed_parts_of_a_scene_are_all_there(tmp_path):
    scene = trimesh.Scene()
    for x in (-2, 2):
        place = np.eye(4)
        place[0, 3] = x
        scene.add_geometry(trimesh.creation.box(), transform=place)
    scene.export(tmp_path / "two.glb")
    mesh = load_mesh(tmp_path / "two.glb")
    assert len(mesh.corners) == 24
    x = mesh.corners[..., 0]
    assert np.abs(x).min() > 0.4  # nothing between the two


def test_surfaces_that_are_not_closed_or_not_consistent_are_read(tmp_path):
    """Three faces at one edge, one of them wound the other way, one without area, one with a hole in it."""
    text = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nv 0 -1 0\nf 1 2 3\nf 2 1 4\nf 1 2 5\nf 1 1 2\n"
    mesh = load_mesh(write(tmp_path / "fan.obj", text))
    assert np.isfinite(mesh.corners).all()
    assert np.isfinite(mesh.normals).all()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("points.obj", "v 0 0 0\nv 1 0 0\n", "no triangles"),
        ("dot.obj", "v 1 1 1\nf 1 1 1\n", "no extent"),
        ("broken.glb", "not a mesh", "cannot be read as a mesh"),
        ("empty.ply", "", "cannot be read as a mesh"),
        ("far.obj", "v nan 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "no triangles"),
    ],
)
def test_what_cannot_be_drawn_says_why(tmp_path, name, text, message):
    with pytest.raises(DecodeError, match=rf"{name}.*{message}"):
        load_mesh(write(tmp_path / name, text))
