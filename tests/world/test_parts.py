"""A prompt of several objects, by a model that knows one: told apart, made apart, laid together."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinema.bench.world import ALONE
from kinema.cli import main
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.parts import Parts, denoise_together, lay_together, split_prompts
from kinema.diffusion.protocols import Denoised
from kinema.encoders.embedded import WordTextConfig, WordTextEncoder
from kinema.encoders.grammar import Part
from kinema.encoders.protocols import NoText
from kinema.encoders.wording import reword, words
from kinema.errors import ConfigError
from kinema.generate.pipeline import GenerateConfig, prepare
from kinema.location import embedded_model
from kinema.model import load_model
from kinema.world.captions import describe
from kinema.world.draw import WorldConfig, scenes
from kinema.world.exam import ExamConfig, drawn, from_text, share
from kinema.world.wording import LANGUAGE

SHAPE = VideoShape(height=64, width=64, frames=4, fps=8.0)


@pytest.fixture(scope="module")
def model():
    return load_model(embedded_model())


@pytest.mark.parametrize(
    ("said", "captions"),
    [
        ("A red star moves left, a blue circle spins", ["a red star moves left", "a blue circle spins"]),
        (
            "a crimson ball orbits while one small green box stays still on the right",
            ["a red circle moves in a circle", "one small green square stays still on the right"],
        ),
        (
            "a red star moves in a circle, a white ring bounces on a plain background",
            [
                "a red star moves in a circle on a plain background",
                "a white ring bounces on a plain background",
            ],
        ),
        ("a ring jumps up and down, a red star", ["a ring jumps up and down", "a red star"]),
        ("red star green box blue ring", ["red star", "green square", "blue ring"]),
    ],
)
def test_each_thing_gets_a_caption(model, said, captions):
    assert [part.caption for part in model.text_encoder.parts(said)] == captions


def test_a_caption_of_one_thing_or_none_stays_as_it_is(model):
    for said in ("A green ball", "the camera pans left", "", "a star that moves in a circle"):
        assert [part.caption for part in model.text_encoder.parts(said)] == [said]


def test_captions_of_the_world_fall_into_their_things():
    """Colour, shape and motion of each, and nothing of another."""
    generator = np.random.default_rng(0)
    for scene in scenes(WorldConfig(objects=(0, 0.6, 0.4)), 300, seed=5):
        told = reword(words(describe(scene, generator)), LANGUAGE.phrases)
        found = LANGUAGE.grammar.parts(told)
        assert len(found) == len(scene.things)
        for part, thing in zip(found, scene.things, strict=True):
            assert f"{thing.colour} {thing.shape}" in part.caption
            others = {f"{other.colour} {other.shape}" for other in scene.things if other is not thing}
            assert not any(other in part.caption for other in others)


def test_an_encoder_without_a_grammar_has_no_parts():
    plain = WordTextEncoder(WordTextConfig(width=8, heads=2), ["star"])
    assert plain.parts("a star, a star") == [Part("a star, a star")]
    assert split_prompts(plain, ["a star, a star"]) is None
    assert split_prompts(NoText(), ["a star, a star"]) is None


def spot(down, right, frames=3, side=16):
    """One bright thing of four cells on a dark ground."""
    clean = torch.full((4, frames, side, side), -1.0)
    clean[:, :, down : down + 4, right : right + 4] = 1.0
    return clean


def centre(video):
    bright = (video.mean(0)[0] > 0).nonzero().float()
    return bright.mean(0).tolist()


def test_things_in_the_same_place_are_moved_apart():
    clean = torch.stack([spot(6, 6), -0.5 + 2 * (spot(6, 6) > 0).float()])
    laid = lay_together(Parts((Part("one"), Part("other")), (0, 0)), clean, clean)
    bright = laid.latents[0].mean(0)[0] > 0
    assert int(bright.sum()) == 32
    torch.testing.assert_close(laid.shares.sum(0), torch.ones(1, 3, 16, 16))
    one, other = laid.shares[:, 0, 0] > 0.5
    assert int((one & bright).sum()) == int((other & bright).sum()) == 16


def test_things_go_where_they_were_told_to_be():
    parts = Parts((Part("one", (-1.0, 0.0)), Part("other", (0.0, 1.0))), (0, 1))
    clean = torch.stack([spot(6, 6), spot(6, 6)])
    left, low = lay_together(parts, clean, clean).latents
    assert centre(left)[1] < 5 < centre(left)[0] < 11
    assert centre(low)[0] > 10 > centre(low)[1] > 5


def test_a_prompt_of_one_thing_is_not_touched():
    parts = Parts((Part("one"), Part("two"), Part("three")), (0, 1, 1))
    latents = torch.randn(3, 4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    laid = lay_together(parts, latents, torch.stack([spot(2, 9), spot(6, 6), spot(7, 7)]))
    assert torch.equal(laid.latents[0], latents[0])
    assert torch.equal(laid.shares[0], torch.ones(1, 3, 16, 16))
    assert len(laid.latents) == 2


def test_estimates_are_summed_by_their_shares():
    parts = Parts((Part("one"), Part("two"), Part("three")), (0, 1, 1))
    shares = torch.tensor([1.0, 0.25, 0.75]).view(3, 1, 1, 1, 1).expand(-1, -1, 1, 2, 2)
    rows = torch.tensor([1.0, 2.0, 4.0]).view(3, 1, 1, 1, 1)
    joined = denoise_together(lambda latents, _: Denoised(latents * rows), parts, shares)
    estimate = joined(torch.ones(2, 1, 1, 2, 2), torch.ones(2, 1)).clean
    assert estimate[:, 0, 0, 0, 0].tolist() == [1.0, 3.5]


def sampled(model, prompts, **settings):
    generators = [torch.Generator().manual_seed(number) for number in range(len(prompts))]
    asked = {"steps": 3, "guidance_scale": 4.0, "parts_apart": 0.5, "generator": generators} | settings
    with torch.inference_mode():
        return sample_latents(model, prompts, SHAPE, **asked)


def test_prompts_of_one_thing_are_sampled_as_without(model):
    prompts = ["a red star moves left"]
    assert torch.equal(sampled(model, prompts), sampled(model, prompts, parts_apart=0.0))


def test_neighbours_in_a_batch_change_nothing(model):
    prompts = ["a red star, a blue ring", "a green square", "a white star, a red ring, a blue star"]
    together = sampled(model, prompts)
    assert together.shape[0] == 3
    for number, prompt in enumerate(prompts):
        own = sampled(model, [prompt], generator=[torch.Generator().manual_seed(number)])
        torch.testing.assert_close(together[number], own[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("sampler", ["euler", "heun", "ddim", "dpmpp-2m"])
def test_each_sampler_takes_all_its_steps(model, sampler):
    counted = []
    latents = sampled(
        model, ["a red star, a blue ring"], sampler=sampler, on_step=lambda clean: counted.append(len(clean))
    )
    assert counted == [1] * (5 if sampler == "heun" else 3)
    assert torch.isfinite(latents).all()


def test_one_step_is_too_few(model):
    with pytest.raises(ConfigError, match="parts of a prompt need 2 steps"):
        sampled(model, ["a red star, a blue ring"], steps=1)


def test_the_sidecar_names_the_parts(tmp_path, capsys):
    prompt = ["--prompt", "a red star moves left, a blue circle spins", "--steps", "2", "--frames", "2"]
    for name, more in (("apart", []), ("whole", ["--parts-apart", "0"])):
        assert main(["generate", *prompt, *more, "--out", str(tmp_path / f"{name}.mp4"), "--json"]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "apart.mp4.json").read_text())
    assert record["parts"] == ["a red star moves left", "a blue circle spins"]
    whole = json.loads((tmp_path / "whole.mp4.json").read_text())
    assert "parts" not in whole
    assert whole["latents_sha256"] != record["latents_sha256"]


def test_an_encoder_that_cannot_tell_parts_is_named(model, tmp_path):
    config = GenerateConfig(prompt="a red star, a blue ring")
    other = replace(model, text_encoder=NoText(), sampling=replace(model.sampling, motion_guidance=0.0))
    with pytest.raises(ConfigError, match="leave out --parts-apart"):
        prepare(config, other, tmp_path / "a.mp4")
    assert prepare(config, model, tmp_path / "a.mp4").settings.parts_apart == 0.5


@pytest.mark.slow
def test_two_objects_are_obeyed(model):
    """Without parts none of them is."""
    asked = drawn(replace(ALONE, objects=(0, 1, 0)), 12, seed=41)
    assert share(from_text(model, asked, ExamConfig()), "obeyed") >= 0.25
