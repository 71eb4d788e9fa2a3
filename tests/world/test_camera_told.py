"""What a prompt says of the camera is done by a virtual one, for a model that was not taught it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinema.bench.world import ALONE
from kinema.cli import main
from kinema.denoiser import VideoShape, sample_latents
from kinema.denoiser.parts import Laid, Parts, widened
from kinema.encoders.embedded import WordTextConfig, WordTextEncoder
from kinema.encoders.grammar import Part, Shot
from kinema.encoders.protocols import NoText
from kinema.encoders.wording import reword, words
from kinema.errors import ConfigError
from kinema.evaluate.metrics import evaluate
from kinema.generate.pipeline import GenerateConfig, prepare
from kinema.location import embedded_model
from kinema.model import load_model
from kinema.video.reader import probe
from kinema.video.writer import write_image
from kinema.world.captions import describe
from kinema.world.draw import WorldConfig, scenes
from kinema.world.exam import ExamConfig, camera_share, drawn, from_text
from kinema.world.wording import LANGUAGE


@pytest.fixture(scope="module")
def model():
    return load_model(embedded_model())


@pytest.mark.parametrize(
    ("said", "rest", "move"),
    [
        ("a red star, the camera pans left", "a red star on a checkered background", "pan_left"),
        ("a crimson ball, panning up", "a red circle on a checkered background", "tilt_up"),
        ("a crimson ball, the camera tilts down", "a red circle on a checkered background", "tilt_down"),
        ("zooming out, a green box spins", "a green square spins on a checkered background", "zoom_out"),
        ("one white ring on a plain backdrop, zoom in", "one white ring on a plain background", "zoom_in"),
        ("a red star moves left on a noisy background, camera moves down", None, "tilt_down"),
    ],
)
def test_a_caption_and_its_camera_are_told_apart(model, said, rest, move):
    shot = model.text_encoder.shot(said)
    assert shot.moves == (move,)
    assert shot.over_ground == (rest or "a red star moves left on a noisy background")
    assert "camera" not in shot.caption


def test_a_caption_without_a_move_stays_as_it_is(model):
    for said in ("A green ball", "a red star, static camera", "", "a star moves left"):
        shot = model.text_encoder.shot(said)
        assert (shot.caption, shot.moves) == (said, ())
        assert shot.over_ground.endswith("on a checkered background")
    plain = WordTextEncoder(WordTextConfig(width=8, heads=2), ["star"])
    assert plain.shot("a star, zoom in") == Shot("a star, zoom in", "a star, zoom in")


def test_captions_of_the_world_tell_their_camera():
    generator = np.random.default_rng(0)
    seen = set()
    for scene in scenes(WorldConfig(camera_share=1, objects=(1, 0, 0)), 60, seed=5):
        shot = LANGUAGE.grammar.shot(reword(words(describe(scene, generator)), LANGUAGE.phrases))
        (move,) = shot.moves
        assert move.replace("tilt", "pan") == scene.camera.value
        seen.add(move)
    assert len(seen) == 6


def test_the_shipped_model_knows_the_grammar_of_the_world(model):
    assert model.text_encoder.config.grammar == LANGUAGE.grammar
    assert model.sampling.virtual_camera


def test_a_smaller_clip_becomes_the_middle_of_a_larger_one():
    parts = Parts((Part("one"), Part("two"), Part("three")), (0, 0, 1))
    clean = torch.arange(3.0).view(3, 1, 1, 1, 1).expand(3, 1, 2, 4, 4)
    laid = Laid(torch.full((2, 1, 2, 4, 4), 9.0), torch.full((3, 1, 2, 4, 4), 0.5))
    wide = widened(laid, parts, clean, torch.full((2, 1, 2, 6, 8), 0.25))
    assert wide.latents.shape == (2, 1, 2, 6, 8)
    assert (wide.latents[:, :, :, 1:5, 2:6] == 9).all()
    assert wide.latents[:, 0, 0, 0, 0].tolist() == [0.25, 2.25]
    assert wide.shares[:, 0, 0, 0, 0].tolist() == [1.0, 0.0, 1.0]
    assert (wide.shares[..., 1:5, 2:6] == 0.5).all()


def test_what_is_in_the_middle_was_decided_there(model):
    """The first steps are those of the smaller clip; neighbours in a batch change nothing."""
    shape = VideoShape(height=96, width=96, frames=2, fps=8.0)
    prompts = ["a red star on a checkered background", "a blue ring, a green square"]

    def sampled(first: int, last: int) -> torch.Tensor:
        generators = [torch.Generator().manual_seed(number) for number in range(first, last)]
        with torch.inference_mode():
            return sample_latents(
                model,
                prompts[first:last],
                shape,
                steps=4,
                guidance_scale=4.0,
                generator=generators,
                parts_apart=0.5,
                begun=replace(shape, height=64, width=64),
            )

    together = sampled(0, 2)
    assert together.shape[-2:] == (24, 24)
    torch.testing.assert_close(sampled(1, 2), together[1:], atol=1e-3, rtol=1e-3)


def test_the_sidecar_tells_the_move_and_what_was_made(tmp_path, capsys):
    out = tmp_path / "pan.mp4"
    asked = ["--prompt", "a red star, the camera pans left", "--steps", "2", "--frames", "3", "--seed", "4"]
    assert main(["generate", *asked, "--out", str(out), "--json"]) == 0
    record = json.loads(out.with_name("pan.mp4.json").read_text())
    assert (record["camera_motion"], record["made"]) == ("pan_left", [96, 96])
    assert (record["height"], record["width"]) == (64, 64)
    assert record["unknown_words"] == []
    found = probe(out)
    assert (found.height, found.width) == (64, 64)

    again = tmp_path / "still.mp4"
    assert main(["generate", *asked, "--camera", "static", "--out", str(again), "--json"]) == 0
    capsys.readouterr()
    still = json.loads(again.with_name("still.mp4.json").read_text())
    assert "camera_motion" not in still
    assert still["latents_sha256"] != record["latents_sha256"]


def test_a_picture_may_be_filmed_too(model, tmp_path):
    picture = tmp_path / "photo.png"
    write_image(picture, np.full((64, 64, 3), 90, np.uint8))
    config = GenerateConfig(prompt="a red star, zooming in", image=picture)
    job = prepare(config, model, tmp_path / "a.mp4")
    assert job.settings.camera == "zoom_in"
    assert (job.settings.height, job.settings.width) == (96, 96)
    assert job.plan.windows[0].prompt == "a red star"


def test_moves_that_cannot_be_made_are_refused_by_name(model, tmp_path):
    two = GenerateConfig(prompt="a red star, the camera pans left, camera zooms in")
    with pytest.raises(ConfigError, match="one camera move; the prompt asks for pan_left and zoom_in"):
        prepare(two, model, tmp_path / "a.mp4")
    asked = GenerateConfig(prompt="a red star", camera="zoom_in", loop=True)
    with pytest.raises(ConfigError, match="without loop or references"):
        prepare(asked, model, tmp_path / "a.mp4")
    with pytest.raises(ConfigError, match="camera move zoom_in is for videos"):
        prepare(replace(asked, loop=False), model, tmp_path / "a.png")
    with pytest.raises(ConfigError, match="camera must be one of static, pan_left"):
        GenerateConfig(prompt="a red star", camera="roll")


def test_a_move_that_is_not_made_is_named(model, tmp_path, caplog):
    asked = GenerateConfig(prompt="a red star, zooming in", loop=True)
    job = prepare(asked, model, tmp_path / "a.mp4")
    assert (job.settings.camera, job.plan.windows[0].prompt) == (None, "a red star, zooming in")
    (told,) = caplog.messages
    assert told.startswith("no camera moves (zoom_in): that is for videos from a prompt or one picture")
    caplog.clear()
    prepare(replace(asked, prompt="a red star"), model, tmp_path / "a.mp4")
    assert caplog.messages == []


def test_other_models_take_the_prompt_as_it_is_and_a_camera_by_name(model, tmp_path):
    other = replace(
        model,
        text_encoder=NoText(),
        sampling=replace(model.sampling, parts_apart=0.0, motion_guidance=0.0, virtual_camera=False),
    )
    said = "a red star, the camera pans left"
    job = prepare(GenerateConfig(prompt=said), other, tmp_path / "a.mp4")
    assert (job.settings.camera, job.plan.windows[0].prompt) == (None, said)
    job = prepare(GenerateConfig(prompt=said, camera="pan_right"), other, tmp_path / "a.mp4")
    assert (job.settings.camera, job.settings.width) == ("pan_right", 96)
    assert job.settings.begun(16) is None


def test_pictures_do_without_a_camera(model, tmp_path):
    job = prepare(GenerateConfig(prompt="a red star, zooming in"), model, tmp_path / "a.png")
    assert (job.settings.camera, job.settings.height) == (None, 64)


@pytest.mark.slow
def test_the_camera_is_obeyed(model):
    asked = drawn(replace(ALONE, camera_share=1), 12, seed=41)
    assert camera_share(from_text(model, asked, ExamConfig())) >= 0.7


def test_evaluation_asks_whether_the_move_can_be_seen(tmp_path, capsys):
    """Moves of a virtual camera, by the scorer of curation, from the sidecar."""
    prompts = tmp_path / "prompts.csv"
    prompts.write_text(
        "prompt,camera,seed\n"
        "a red star on a noisy background,zoom_in,1\n"
        "a blue ring on a noisy background,pan_right,2\n"
    )
    out = tmp_path / "out"
    assert main(["generate", "--prompts", str(prompts), "--out", str(out), "--steps", "4", "--json"]) == 0
    capsys.readouterr()
    found = evaluate(out, None, tmp_path / "judged")["metrics"]["camera_motion_obeyed"]
    assert found["videos"] == 2


def test_one_move_goes_through_all_segments(tmp_path, capsys):
    out = tmp_path / "long.mp4"
    asked = ["--prompt", "a red star, the camera pans left", "--segments", "2", "--overlap", "1"]
    assert main(["generate", *asked, "--steps", "2", "--frames", "3", "--out", str(out), "--json"]) == 0
    capsys.readouterr()
    record = json.loads(out.with_name("long.mp4.json").read_text())
    assert (record["camera_motion"], record["frames_written"]) == ("pan_left", 5)
    assert (probe(out).height, probe(out).width) == (64, 64)


def test_prompts_of_a_file_have_a_camera_each(tmp_path, capsys):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red star, the camera pans left\na blue ring\na green square, zooming in\n")
    out = tmp_path / "out"
    small = ["--steps", "2", "--frames", "2", "--json"]
    assert main(["generate", "--prompts", str(prompts), "--out", str(out), *small]) == 0
    capsys.readouterr()
    records = [json.loads((out / f"{number:03}.mp4.json").read_text()) for number in range(3)]
    assert [record.get("camera_motion") for record in records] == ["pan_left", None, "zoom_in"]
    assert {(record["height"], record["width"]) for record in records} == {(64, 64)}
    assert [record["batch"] for record in records] == [1, 1, 1]
