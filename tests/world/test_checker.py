"""The checker against scenes that are known: right about them, and not about others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.world.checker import check, check_camera, look
from kinema.world.draw import WorldConfig, scenes
from kinema.world.render import render
from kinema.world.scene import Camera, Motion, Scene, Shape, Thing

ALONE = WorldConfig(objects=(1, 0, 0), camera_share=0, held_out=None)


def obeyed(pairs):
    """The share of clips in which every object is what it should be and does what it should."""
    return np.mean([all(verdict.obeyed for verdict in check(scene, frames)) for scene, frames in pairs])


@pytest.fixture(scope="module")
def rendered():
    return [(scene, render(scene)) for scene in scenes(ALONE, 60, seed=21)]


def test_right_about_single_objects(rendered):
    assert obeyed(rendered) >= 0.97


def test_not_deceived_by_other_clips(rendered):
    frames = [clip for _, clip in rendered]
    shifted = [(scene, clip) for (scene, _), clip in zip(rendered, frames[1:] + frames[:1], strict=True)]
    assert obeyed(shifted) <= 0.05


def test_right_about_two_objects():
    config = replace(ALONE, objects=(0, 1, 0))
    assert obeyed([(scene, render(scene)) for scene in scenes(config, 30, seed=22)]) >= 0.97


def test_right_about_the_camera():
    moving = replace(ALONE, camera_share=1)
    still = replace(ALONE, grounds=("plain", "checkered"))
    for config in (moving, still):
        found = [check_camera(scene, render(scene)) for scene in scenes(config, 20, seed=23)]
        assert np.mean(found) >= 0.95


def test_right_about_size_and_place():
    config = replace(ALONE, frames=1)
    verdicts = [check(scene, render(scene))[0] for scene in scenes(config, 60, seed=24)]
    for name in ("size", "place"):
        told = [value for verdict in verdicts if (value := getattr(verdict, name)) is not None]
        assert len(told) > 10
        assert np.mean(told) >= 0.97


def test_noise_shows_nothing_that_was_asked_for():
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 255, (16, 64, 64, 3), dtype=np.uint8)
    wrong = [check(scene, frames)[0].obeyed for scene in scenes(ALONE, 20, seed=25)]
    assert sum(wrong) <= 1


def test_an_empty_picture_shows_nothing():
    frames = np.full((16, 64, 64, 3), 40, np.uint8)
    assert look(frames) == []
    assert not check(next(scenes(ALONE, 1, seed=0)), frames)[0].colour


def test_a_spinning_circle_may_look_still():
    scene = Scene(things=(Thing(shape=Shape.CIRCLE, colour="red", motion=Motion.SPIN),))
    assert check(scene, render(scene))[0].motion
    other = Scene(things=(Thing(shape=Shape.SQUARE, colour="red", motion=Motion.SPIN),))
    still = replace(other, things=(replace(other.things[0], motion=Motion.STILL),))
    assert check(other, render(other))[0].motion
    assert not check(other, render(still))[0].motion


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (96, 96), (128, 72)])
def test_other_sizes(size):
    config = replace(ALONE, height=size[0], width=size[1])
    assert obeyed([(scene, render(scene)) for scene in scenes(config, 12, seed=26)]) >= 0.9


def test_the_other_way_is_seen():
    thing = Thing(shape=Shape.STAR, colour="blue", motion=Motion.LEFT, x=0.75)
    scene = Scene(things=(thing,))
    backwards = render(scene)[::-1]
    assert look(render(scene))[0].motion is Motion.LEFT
    assert look(backwards)[0].motion is Motion.RIGHT
    assert check_camera(scene, backwards)
    assert scene.camera is Camera.STATIC
