"""Pictures: what the camera sees from where, edges, both sides of a surface, textures, light."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from kinema.errors import DecodeError
from kinema.render.color import to_linear, to_srgb
from kinema.render.light import irradiance, light_at, random_environment, read_environment
from kinema.render.mesh import Mesh
from kinema.render.orbit import Camera, Picture, orbit, render

WHITE = irradiance(np.ones((16, 32, 3)))
BLACK = Picture(size=32, background=(0.0, 0.0, 0.0))


def mesh(corners, colors=None, **more):
    corners = np.asarray(corners, float)
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.repeat((flat / np.linalg.norm(flat, axis=1, keepdims=True))[:, None], 3, axis=1)
    count = len(corners)
    colors = np.ones((count, 3, 3)) if colors is None else np.asarray(colors, float)
    facts = {"uv": np.zeros((count, 3, 2)), "texture": np.full(count, -1)} | more
    return Mesh(corners=corners, normals=normals, colors=colors, **facts)


def spot(x, y, z, color):
    """A small square to the front of a place, and its colour."""
    square = [[x, y, z], [x + 0.2, y, z], [x, y + 0.2, z], [x + 0.2, y + 0.2, z]]
    return [[square[0], square[1], square[2]], [square[1], square[3], square[2]]], [[color] * 3] * 2


def test_where_right_up_and_front_are():
    red, green = spot(0.5, 0, 0, (1, 0, 0)), spot(0, 0.5, 0, (0, 1, 0))
    scene = mesh(red[0] + green[0], red[1] + green[1])
    picture = render(scene, Camera(azimuth=0, elevation=0), WHITE, BLACK)
    rows, columns = np.nonzero(picture[..., 0])
    assert columns.min() > 16
    rows, columns = np.nonzero(picture[..., 1])
    assert rows.max() < 16
    behind = render(scene, Camera(azimuth=180, elevation=0), WHITE, BLACK)
    assert np.nonzero(behind[..., 0])[1].max() < 16  # and the back of a surface is seen as well


def test_azimuth_turns_the_camera_to_the_right_and_elevation_lifts_it():
    front, side = spot(-0.1, -0.1, 0.7, (1, 0, 0)), [[[0.7, 0, 0.1], [0.7, 0, -0.1], [0.7, 0.2, 0]]]
    scene = mesh(front[0] + side, front[1] + [[(0, 1, 0)] * 3])
    at = render(scene, Camera(azimuth=45, elevation=0), WHITE, BLACK)
    # From between the two, what faces the front is to the left, what faces +x to the right.
    assert np.nonzero(at[..., 0])[1].mean() < 16 < np.nonzero(at[..., 1])[1].mean()
    floor = mesh([[[-0.5, 0, 0.5], [0.5, 0, 0.5], [0, 0, -0.5]]])
    assert render(floor, Camera(azimuth=0, elevation=30), WHITE, BLACK).any()
    assert not render(floor, Camera(azimuth=0, elevation=0), WHITE, BLACK).any()


def test_an_orbit_is_one_turn_in_equal_steps():
    cameras = orbit(300, 10, 21)
    steps = np.diff([camera.azimuth for camera in [*cameras, cameras[0]]]) % 360
    np.testing.assert_allclose(steps, 360 / 21)
    assert {camera.elevation for camera in cameras} == {10}


def test_the_unit_sphere_fits_and_nearly_fills_the_picture():
    points = np.random.default_rng(0).normal(size=(4000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    picture = render(mesh(_tiny(points)), Camera(azimuth=20, elevation=-5), WHITE, BLACK)
    rows, columns = np.nonzero(picture.any(axis=2))
    for places in (rows, columns):
        assert 0 < places.min() <= 2
        assert 29 <= places.max() < 31


def _tiny(points):
    offsets = np.array([[0.05, 0, 0], [0, 0.05, 0], [0, 0, 0.05]])
    return points[:, None] * 0.95 + offsets


def test_edges_are_mixed_in_proportion():
    """A half plane whose edge runs through the middle of a column of pixels."""
    far = Camera(azimuth=0, elevation=0)
    pixel = 2 * far.distance * np.tan(np.radians(20)) / 32
    edge = 2.5 * pixel
    half = [[[edge, -9, 0], [9, -9, 0], [9, 9, 0]], [[edge, -9, 0], [9, 9, 0], [edge, 9, 0]]]
    picture = render(mesh(half), far, WHITE, BLACK)
    assert picture[5, 17, 0] == 0
    assert picture[5, 18, 0] == pytest.approx(255 * to_srgb(np.array(0.5)), abs=1)
    assert picture[5, 19, 0] == 255


def test_a_texture_is_the_right_way_up_and_small_ones_do_not_flicker():
    quad = [[[-1, -1, 0], [1, -1, 0], [1, 1, 0]], [[-1, -1, 0], [1, 1, 0], [-1, 1, 0]]]
    uv = np.array([[[0, 0], [1, 0], [1, 1]], [[0, 0], [1, 1], [0, 1]]], float)
    upper_left = np.zeros((2, 2, 3), np.uint8)
    upper_left[0, 0] = 255
    textured = mesh(np.array(quad) * 0.6, uv=uv, texture=np.zeros(2, int), textures=((upper_left,),))
    picture = render(textured, Camera(azimuth=0, elevation=0), WHITE, BLACK)[..., 0].astype(int)
    assert picture[11, 11] > 245
    assert picture[20, 11] < 60  # a little of the texel beside it
    assert picture[11, 20] < 60
    board = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)[..., None].repeat(3, 2)
    levels = [board]
    while len(levels[-1]) > 1:
        levels.append(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    fine = mesh(np.array(quad) * 0.6, uv=uv, texture=np.zeros(2, int), textures=(tuple(levels),))
    inside = render(fine, Camera(azimuth=0, elevation=0), WHITE, BLACK)[12:20, 12:20, 0]
    assert np.ptp(inside.astype(int)) <= 1


def test_light_is_the_integral_of_its_map():
    """Against summing cosine times radiance over the whole map."""
    environment = random_environment(np.random.default_rng(3))
    rows, columns = environment.shape[:2]
    polar, around = np.meshgrid(
        (np.arange(rows) + 0.5) / rows * np.pi,
        ((np.arange(columns) + 0.5) / columns * 2 - 1) * np.pi,
        indexing="ij",
    )
    towards = np.stack([np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)], -1)
    solid = np.sin(polar) * np.pi / rows * 2 * np.pi / columns
    normals = np.array([[0, 1, 0], [0, -1, 0], [1, 0, 0], [0.6, 0, -0.8]])
    cosine = np.clip(np.einsum("nd,hwd->nhw", normals, towards), 0, None)
    expected = np.einsum("nhw,hw,hwc->nc", cosine, solid, environment) / np.pi
    np.testing.assert_allclose(light_at(irradiance(environment), normals), expected, rtol=0.12, atol=0.05)
    np.testing.assert_allclose(light_at(WHITE, normals), 1, rtol=5e-3)


def test_environments_differ_by_seed_and_are_equally_bright(tmp_path):
    made = [random_environment(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(made[0], made[1])
    assert not np.allclose(made[0], made[2])
    cv2.imwrite(str(tmp_path / "room.hdr"), made[2][..., ::-1].astype(np.float32))
    np.testing.assert_allclose(read_environment(tmp_path / "room.hdr"), made[2], rtol=0.05, atol=0.05)
    (tmp_path / "no.png").write_text("nothing")
    with pytest.raises(DecodeError, match=r"no\.png"):
        read_environment(tmp_path / "no.png")


def test_colours_there_and_back():
    values = np.linspace(0, 1, 256)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-6)
