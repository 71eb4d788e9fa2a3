"""Synonyms: they end in words of the captions, and change no caption."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.encoders.wording import reword, words
from kinema.world.captions import describe
from kinema.world.draw import WorldConfig, scenes
from kinema.world.wording import LANGUAGE, PHRASES


@pytest.fixture(scope="module")
def captions():
    generator = np.random.default_rng(0)
    drawn = [*scenes(WorldConfig(), 500, seed=1), *scenes(WorldConfig(camera_share=1), 300, seed=2)]
    return [describe(scene, generator) for scene in drawn]


def test_no_caption_is_changed(captions):
    for caption in captions:
        assert reword(words(caption), PHRASES) == words(caption)


def test_every_phrase_ends_in_words_of_captions(captions):
    known = {word for caption in captions for word in words(caption)}
    for said in PHRASES.values():
        assert set(words(said)) <= known, said


def test_the_model_is_told_the_phrase_that_it_obeys_more(captions):
    """Still in words of captions; every other one is as it was."""
    for caption in captions:
        told = " ".join(reword(words(caption), LANGUAGE.phrases))
        assert told == " ".join(words(caption)).replace("circles around", "moves in a circle")
    assert reword(words("a ball orbits"), LANGUAGE.phrases) == words("a circle moves in a circle")


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("a crimson dot drifts to the left", "a red circle moves left"),
        ("There is a huge golden box that is moving upwards", "a large yellow square moves up"),
        ("a blue ball rolling rightwards rapidly", "a blue circle moves right fast"),
        ("a violet donut orbits, camera zooms out", "a purple ring circles around the camera zooms out"),
        ("a green star stands still in the center", "a green star stays still in the middle"),
        ("the camera pans left", "the camera pans left"),
    ],
)
def test_other_words(said, meant):
    assert reword(words(said), PHRASES) == words(meant)
