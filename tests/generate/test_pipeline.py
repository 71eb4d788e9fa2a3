from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.denoiser import VideoShape
from kinema.errors import CheckpointError, ConfigError
from kinema.generate.conditioning import Reference, given_latents, lay
from kinema.generate.pipeline import GenerateConfig, generate, latents_hash
from kinema.model import load_model
from kinema.progress import Silent
from kinema.video.reader import probe, read_frames
from kinema.video.writer import write_image


def make(model: Path, out: Path, **values: object) -> dict[str, object]:
    values = {"prompt": "a red square moves", "steps": 3} | values
    return generate(model, GenerateConfig(**values), out, Silent())


def test_the_same_command_gives_the_same_latents(model: Path, tmp_path: Path) -> None:
    first, again = make(model, tmp_path / "a.mp4"), make(model, tmp_path / "b.mp4")
    assert first["latents_sha256"] == again["latents_sha256"]
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert make(model, tmp_path / "c.mp4", seed=1)["latents_sha256"] != first["latents_sha256"]
    other = make(model, tmp_path / "d.mp4", prompt="a green square moves")
    assert other["latents_sha256"] != first["latents_sha256"]


def test_the_video_is_h264_with_the_models_own_shape(model: Path, tmp_path: Path) -> None:
    make(model, tmp_path / "a.mp4")
    found = probe(tmp_path / "a.mp4")
    assert (found.codec, found.width, found.height, found.frames) == ("h264", 32, 32, 4)


def test_the_sidecar_reproduces_the_video(model: Path, tmp_path: Path) -> None:
    make(model, tmp_path / "a.mp4", seed=3, guidance_scale=2.5, frames=3, height=40, width=24, fps=5.0)
    record = json.loads((tmp_path / "a.mp4.json").read_text())
    names = ("prompt", "frames", "height", "width", "fps", "steps", "guidance_scale", "seed")
    again = make(model, tmp_path / "b.mp4", **{name: record[name] for name in names})
    assert again["latents_sha256"] == record["latents_sha256"]
    assert len(record["model"]["sha256"]) == 64


def test_text_to_image_is_one_picture(model: Path, tmp_path: Path) -> None:
    record = make(model, tmp_path / "a.png")
    assert (record["task"], record["frames"]) == ("text-to-image", 1)
    assert probe(tmp_path / "a.png").is_image


def test_the_given_frame_is_kept(model: Path, tmp_path: Path) -> None:
    picture = np.full((48, 64, 3), 30, np.uint8)
    picture[:, 32:] = 200
    write_image(tmp_path / "first.png", picture)
    make(model, tmp_path / "a.mp4", image=tmp_path / "first.png", guidance_scale=3.0)
    loaded = load_model(model)
    shape = VideoShape(height=32, width=32, frames=4, fps=6.0)
    cells = lay([Reference(path=tmp_path / "first.png")], {tmp_path / "first.png": 1}, 4)
    given = given_latents(cells, loaded.autoencoder, shape)
    assert given is not None
    assert given.denoise_mask.tolist() == [[False, True, True, True]]
    expected = loaded.autoencoder.decode(given.latents)[0, :, 0].clamp(-1, 1)
    frame = torch.from_numpy(read_frames(tmp_path / "a.mp4", [0.0])[0]).permute(2, 0, 1) / 127.5 - 1
    assert (frame - expected).abs().mean() < 0.05


def test_text_gives_no_frames(model: Path) -> None:
    shape = VideoShape(height=32, width=32, frames=1, fps=6.0)
    assert given_latents((None,), load_model(model).autoencoder, shape) is None


def test_sides_are_rounded_down_to_whole_cells(model: Path, tmp_path: Path) -> None:
    record = make(model, tmp_path / "a.mp4", height=39, width=45)
    assert (record["height"], record["width"]) == (32, 40)


def test_unknown_words_are_named(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    record = make(model, tmp_path / "a.mp4", prompt="a purple square moves")
    assert record["unknown_words"] == ["purple"]
    assert "purple" in caplog.text


def test_settings_of_torch_are_put_back(model: Path, tmp_path: Path) -> None:
    make(model, tmp_path / "a.mp4")
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"frames": 0}, "frames must be above 0"),
        ({"image": Path("nowhere.png")}, r"nowhere\.png does not exist"),
        ({"height": 4}, "at least 8"),
        ({"steps": 2000}, "steps"),
    ],
)
def test_nonsense_is_refused(model: Path, tmp_path: Path, values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make(model, tmp_path / "a.mp4", **values)


def test_suffix_and_frames_must_agree(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a\.gif"):
        make(model, tmp_path / "a.gif")
    with pytest.raises(ConfigError, match="one image"):
        make(model, tmp_path / "a.png", frames=4)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no model\.toml"):
        make(tmp_path, tmp_path / "a.mp4")


def test_the_hash_is_of_values() -> None:
    latents = torch.arange(8.0).reshape(1, 2, 1, 2, 2)
    assert latents_hash(latents) == latents_hash(latents.double())
    assert latents_hash(latents) != latents_hash(latents + 1)
