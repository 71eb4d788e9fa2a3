"""The depth buffer: coverage, order, nothing lost, weights in space."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.render import raster
from kinema.render.raster import barycentric, visible_faces


def test_two_halves_cover_a_rectangle_once():
    corners = np.array([[[2, 1], [7, 1], [7, 5]], [[2, 1], [7, 5], [2, 5]]], float)
    faces = visible_faces(corners, np.ones((2, 3)), 8, 9)
    assert (faces >= 0).sum() == 5 * 4
    assert (faces[1:5, 2:7] >= 0).all()
    assert set(np.unique(faces)) == {-1, 0, 1}


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_the_nearer_one_is_seen_wherever_it_is(order):
    """Two triangles that pass through each other: each is in front on one side."""
    corners = np.array([[[0, 0], [16, 0], [0, 16]]] * 2, float)
    nearness = np.array([[1.0, 3.0, 1.0], [2.0, 2.0, 2.0]])
    faces = np.array([-1, *order])[visible_faces(corners[order], nearness[order], 16, 16) + 1]
    across = np.arange(16) + 0.5
    front = 1 + 2 * across / 16 > 2
    inside = across[None, :] + across[:, None] <= 16
    np.testing.assert_array_equal(faces[inside], np.where(front, 0, 1)[None].repeat(16, 0)[inside])


def test_many_small_triangles_are_what_a_loop_finds(monkeypatch):
    generator = np.random.default_rng(0)
    corners = generator.uniform(-3, 23, (60, 3, 2))
    nearness = generator.uniform(0.5, 2, (60, 3))
    expected = slow(corners, nearness, 20)
    np.testing.assert_array_equal(visible_faces(corners, nearness, 20, 20), expected)
    monkeypatch.setattr(raster, "_FRAGMENTS", 100)
    np.testing.assert_array_equal(visible_faces(corners, nearness, 20, 20), expected)


def slow(corners, nearness, side):
    best, found = np.zeros((side, side)), np.full((side, side), -1)
    for face, (triangle, near) in enumerate(zip(corners, nearness, strict=True)):
        matrix = np.concatenate([triangle.T, np.ones((1, 3))])
        for y in range(side):
            for x in range(side):
                weights = np.linalg.solve(matrix, [x + 0.5, y + 0.5, 1])
                if (weights >= 0).all() and weights @ near > best[y, x]:
                    best[y, x], found[y, x] = weights @ near, face
    return found


def test_triangles_from_their_edge_or_outside_are_not_seen():
    corners = np.array([[[0, 0], [4, 4], [8, 8]], [[-9, -9], [-5, -9], [-5, -5]]], float)
    assert (visible_faces(corners, np.ones((2, 3)), 8, 8) == -1).all()


def test_weights_are_those_in_space():
    """Half way on the screen between depths 1 and 3 is a quarter of the way in space."""
    screen = np.array([[[0, 0], [8, 0], [0, 8]]], float)
    weights = barycentric(screen, np.array([[1, 1 / 3, 1]]), np.array([[4.0, 0.0]]))
    np.testing.assert_allclose(weights, [[0.75, 0.25, 0]])
