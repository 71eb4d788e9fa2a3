"""Guidance away from the prompt with everything at rest: what is at rest, what is pushed, and when."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinema.bench.world import ALONE
from kinema.cli import main
from kinema.denoiser import VideoShape, build_denoise, sample_latents
from kinema.denoiser.conditions import told
from kinema.denoiser.guided import told_at_rest
from kinema.diffusion.guidance import Guidance
from kinema.encoders.embedded import WordTextConfig, WordTextEncoder
from kinema.encoders.protocols import NoText
from kinema.encoders.wording import reword, words
from kinema.errors import ConfigError
from kinema.generate.config import GenerateConfig
from kinema.generate.pipeline import prepare
from kinema.location import embedded_model
from kinema.model import load_model
from kinema.video.writer import write_image
from kinema.world.captions import MOTIONS, describe
from kinema.world.draw import WorldConfig, scenes
from kinema.world.exam import ExamConfig, drawn, from_text, share
from kinema.world.scene import Motion
from kinema.world.wording import LANGUAGE

SHAPE = VideoShape(height=64, width=64, frames=4, fps=8.0)
MOVING = "a red star moves left fast"


@pytest.fixture(scope="module")
def model():
    return load_model(embedded_model())


def sampled(model, prompts, motion, **settings):
    generators = [torch.Generator().manual_seed(number) for number in range(len(prompts))]
    asked = {"steps": 4, "generator": generators} | settings
    with torch.inference_mode():
        return sample_latents(
            model, prompts, SHAPE, guidance_scale=Guidance(scale=4.0, motion=motion), **asked
        )


@pytest.mark.parametrize(
    ("said", "rest"),
    [
        (MOVING, "a red star stays still"),
        ("A Crimson ball ORBITS slowly", "a red circle stays still"),
        ("a star jumps up and down, a ring grows", "a star stays still a ring stays still"),
        ("a Star that stays still", "a Star that stays still"),
        ("a red circle", "a red circle"),
    ],
)
def test_a_caption_is_put_to_rest(model, said, rest):
    assert model.text_encoder.at_rest(said) == rest


def test_no_motion_of_the_world_is_left():
    generator = np.random.default_rng(0)
    moving = [text for motion, texts in MOTIONS.items() if motion is not Motion.STILL for text in texts]
    for scene in scenes(WorldConfig(objects=(0.4, 0.4, 0.2)), 200, seed=6):
        told = reword(words(describe(scene, generator)), LANGUAGE.phrases)
        rest = " ".join(LANGUAGE.grammar.at_rest(told))
        assert not any(f" {text} " in f" {rest} " for text in moving)
        assert all(f"{thing.colour} {thing.shape}" in rest for thing in scene.things)


def test_without_a_grammar_a_caption_stays_as_it_is():
    encoder = WordTextEncoder(WordTextConfig(width=8, heads=1), ("a", "star"))
    assert encoder.at_rest("A star moves left") == "A star moves left"


def test_the_estimate_goes_on_from_rest_to_motion(model):
    prompts = [MOVING, "a white ring spins"]
    text = told(model.network, model.text_encoder.encode(prompts), SHAPE)
    rest_text = told_at_rest(model, prompts, Guidance(motion=2.0))
    rest = told(model.network, rest_text, SHAPE)
    latents = 9 * torch.randn(2, *SHAPE.latent_shape(model.autoencoder))
    sigma = torch.full((2, 4), 9.0)

    def estimate(told_text, **settings):
        with torch.inference_mode():
            return build_denoise(model, told_text, **settings)(latents, sigma).clean

    pushed = estimate(text, guidance_scale=Guidance(scale=4.0, motion=2.0), at_rest=rest)
    expected = estimate(text, guidance_scale=4.0) + 2.0 * (estimate(text) - estimate(rest))
    torch.testing.assert_close(pushed, expected, rtol=1e-4, atol=1e-4)


def test_only_the_first_half_of_the_steps_is_pushed(model):
    rows = []
    hook = model.network.register_forward_hook(lambda _, args, __: rows.append(len(args[2].tokens)))
    try:
        sampled(model, [MOVING], 3.0, steps=5)
    finally:
        hook.remove()
    assert rows == [3, 3, 3, 2, 2]


def test_what_does_not_move_is_not_pushed(model):
    still = ["a red star stays still"]
    assert torch.equal(sampled(model, still, 3.0), sampled(model, still, 0.0))
    pushed, without = (sampled(model, [MOVING, *still], motion) for motion in (3.0, 0.0))
    torch.testing.assert_close(pushed[1], without[1], rtol=1e-3, atol=1e-3)
    assert (pushed[0] - without[0]).abs().max() > 0.01


def test_given_frames_are_gone_on_from_without_it(model, tmp_path):
    config = GenerateConfig(prompt=MOVING, motion_guidance=3.0)
    settings = prepare(config, model, tmp_path / "a.mp4").settings
    window = prepare(config, model, tmp_path / "a.mp4").plan.windows[0]
    assert settings.guidance_of(window).motion == 3.0
    write_image(tmp_path / "a.png", np.zeros((64, 64, 3), np.uint8))
    job = prepare(replace(config, image=tmp_path / "a.png"), model, tmp_path / "a.mp4")
    assert job.settings.guidance_of(job.plan.windows[0]).motion == 0.0


def test_the_command_and_the_sidecar_have_it(tmp_path, capsys):
    asked = ["generate", "--prompt", MOVING, "--steps", "2", "--frames", "2", "--json"]
    for name, more in (("pushed", ["--motion-guidance", "2"]), ("off", ["--motion-guidance", "0"])):
        assert main([*asked, *more, "--out", str(tmp_path / f"{name}.mp4")]) == 0
    capsys.readouterr()
    pushed, off = (json.loads((tmp_path / f"{name}.mp4.json").read_text()) for name in ("pushed", "off"))
    assert pushed["motion_guidance"] == 2
    assert "motion_guidance" not in off
    assert pushed["latents_sha256"] != off["latents_sha256"]


def test_what_makes_no_sense_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="motion_guidance must not be negative, got -1"):
        GenerateConfig(prompt="a star", motion_guidance=-1.0)
    other = replace(model, text_encoder=NoText(), sampling=replace(model.sampling, parts_apart=0.0))
    with pytest.raises(ConfigError, match="leave out --motion-guidance"):
        prepare(GenerateConfig(prompt="a star", motion_guidance=1.0), other, tmp_path / "a.mp4")


@pytest.mark.slow
def test_more_prompts_are_obeyed(model):
    asked = drawn(replace(ALONE, motions=(Motion.GROW, Motion.CIRCLE)), 16, seed=43)
    off = replace(model, sampling=replace(model.sampling, motion_guidance=0.0))
    assert share(from_text(model, asked, ExamConfig()), "motion") > share(
        from_text(off, asked, ExamConfig()), "motion"
    )
