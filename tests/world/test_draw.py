"""Scenes: repeatable, whole in the picture, apart from each other, and never of the held-out kinds."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from kinema.world.captions import describe
from kinema.world.draw import WorldConfig, draw_scene, scenes
from kinema.world.render import poses, render
from kinema.world.scene import FPS, Camera, Colour, Ground, Motion, Scene, Shape, Thing, held_out


def test_a_seed_is_a_scene():
    config = WorldConfig()
    assert draw_scene(config, 3) == draw_scene(config, 3)
    assert draw_scene(config, 3) != draw_scene(config, 4)


def test_one_colour_of_seven_is_held_out_for_each_shape_and_motion():
    for shape, motion in product(Shape, Motion):
        assert sum(held_out(shape, colour, motion) for colour in Colour) == 1
    for colour in Colour:
        assert any(held_out(shape, colour, motion) for shape, motion in product(Shape, Motion))


@pytest.mark.parametrize("wanted", [True, False])
def test_training_and_held_out_scenes_do_not_mix(wanted):
    for scene in scenes(WorldConfig(held_out=wanted, camera_share=0), 40, seed=1):
        assert all(held_out(t.shape, t.colour, t.motion) is wanted for t in scene.things)


def test_only_the_motions_that_are_asked_for_are_drawn():
    wanted = (Motion.LEFT, Motion.UP)
    drawn = scenes(WorldConfig(motions=wanted, camera_share=0), 40, seed=4)
    assert {thing.motion for scene in drawn for thing in scene.things} == set(wanted)


def test_things_that_begin_in_the_middle_do_not_tell_their_way_by_their_place():
    config = WorldConfig(objects=(1, 0, 0), motions=(Motion.LEFT,), middle_share=1, camera_share=0)
    drawn = [scene.things[0] for scene in scenes(config, 40, seed=5)]
    assert all(abs(thing.x - 0.5) <= 0.1 and abs(thing.y - 0.5) <= 0.1 for thing in drawn)


def test_the_middle_may_be_wide_and_what_moves_from_there_stays_in_the_picture():
    moving = (Motion.LEFT, Motion.RIGHT, Motion.UP, Motion.DOWN, Motion.SPIN)
    config = WorldConfig(objects=(1, 0, 0), motions=moving, middle_share=1, middle_spread=0.2, camera_share=0)
    things = [scene.things[0] for scene in scenes(config, 80, seed=5)]
    assert 0.15 < max(abs(thing.x - 0.5) for thing in things) <= 0.2
    for pose in (pose for thing in things for pose in poses(thing, np.arange(16) / FPS, 1.0)):
        for centre in (pose.x, pose.y):
            assert min(centre, 1 - centre) >= pose.radius - 1e-9


def test_a_share_of_the_single_objects_begins_in_the_middle_and_bouncing_ones_never_do():
    config = WorldConfig(middle_share=0.5, objects=(0.8, 0.2, 0), camera_share=0.2)
    plain = replace(config, middle_share=0.0)
    moved = [
        (after, before)
        for after, before in zip(scenes(config, 200, seed=6), scenes(plain, 200, seed=6), strict=True)
        if after.things != before.things
    ]
    assert 40 <= len(moved) <= 90  # half of the 115 or so that can be moved
    assert all(len(after.things) == 1 and after.camera is Camera.STATIC for after, _ in moved)
    assert all(after.things[0].motion is not Motion.BOUNCE for after, _ in moved)


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (80, 48)])
def test_things_stay_in_the_picture_and_apart(size):
    config = WorldConfig(height=size[0], width=size[1], objects=(0.4, 0.3, 0.3), camera_share=0)
    wide, high = size[1] / min(size), size[0] / min(size)
    for scene in scenes(config, 40, seed=2):
        times_s = np.arange(scene.frames) / FPS
        paths = [poses(thing, times_s, size[1] / size[0]) for thing in scene.things]
        for path in paths:
            assert all(p.radius - 1e-6 <= p.x <= wide - p.radius + 1e-6 for p in path)
            assert all(p.radius - 1e-6 <= p.y <= high - p.radius + 1e-6 for p in path)
        for index, path in enumerate(paths):
            for other in paths[:index]:
                gaps = [
                    np.hypot(a.x - b.x, a.y - b.y) - a.radius - b.radius
                    for a, b in zip(path, other, strict=True)
                ]
                assert min(gaps) > 0


def test_captions_tell_what_is_shown():
    generator = np.random.default_rng(0)
    for scene in scenes(WorldConfig(), 60, seed=3):
        caption = describe(scene, generator)
        for thing in scene.things:
            assert f"{thing.colour} {thing.shape}" in caption
        assert ("camera" in caption and "static" not in caption) == (scene.camera is not Camera.STATIC)


def test_captions_vary():
    scene = draw_scene(WorldConfig(), 5)
    generator = np.random.default_rng(0)
    assert len({describe(scene, generator) for _ in range(30)}) > 3


def test_a_thing_stops_at_the_edge():
    thing = Thing(shape=Shape.SQUARE, colour=Colour.RED, motion=Motion.LEFT, x=0.3, radius=0.15)
    path = poses(thing, np.arange(80) / FPS)
    assert path[-1].x == pytest.approx(0.15)
    assert all(a.x >= b.x for a, b in pairwise(path))


def test_edges_are_soft():
    scene = Scene(things=(Thing(shape=Shape.TRIANGLE, colour=Colour.WHITE),), frames=1)
    levels = np.unique(render(scene)[0][..., 0])
    assert len(levels) > 10


def test_the_background_follows_the_camera():
    scene = next(
        scene
        for scene in scenes(WorldConfig(camera_share=1, grounds=(Ground.NOISE,)), 60, seed=4)
        if scene.camera is Camera.PAN_RIGHT
    )
    frames = render(scene).astype(int)
    shift = round(0.16 * 64 * 4 / FPS)
    same = np.abs(frames[4][:, : -shift or None] - frames[0][:, shift:]).mean()
    assert same < np.abs(frames[4] - frames[0]).mean() / 2


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="one to three"):
        Scene(things=())
    with pytest.raises(ValueError, match="camera_share"):
        WorldConfig(camera_share=2)
    with pytest.raises(ValueError, match="middle_spread"):
        WorldConfig(middle_spread=0.5)
