from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from kinema.denoiser import Given, VideoShape, sample_latents
from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.processes import Process
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.errors import CheckpointError, ConfigError
from kinema.generate.conditioning import Reference, given_latents, lay
from kinema.generate.pipeline import GenerateConfig, config_of, generate, latents_hash
from kinema.generate.tasks import Connect, Edit, Extend, FromText, Interpolate, files_of
from kinema.model import load_model
from kinema.nn.precision import _tell, computed_in
from kinema.progress import Silent
from kinema.train.config import TrainConfig
from kinema.train.loop import train
from kinema.video.reader import probe, read_frames
from kinema.video.writer import write_image

FOOTAGE = Path(os.environ.get("KINEMA_FOOTAGE", Path(__file__).parents[3] / "shared/footage"))


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


def test_bf16_is_a_choice_that_the_sidecar_repeats(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinema.nn.precision.FLOAT32_IS_FASTER", False)
    first = make(model, tmp_path / "a.mp4", precision="bf16", guidance_scale=3.0)
    assert first["precision"] == "bf16"
    again = generate(model, config_of(first), tmp_path / "b.mp4", Silent())
    assert again["latents_sha256"] == first["latents_sha256"]
    whole = make(model, tmp_path / "c.mp4", guidance_scale=3.0)
    assert whole["precision"] == "fp32"
    assert whole["latents_sha256"] != first["latents_sha256"]
    frames = [read_frames(tmp_path / name, [0.0])[0].astype(float) for name in ("a.mp4", "c.mp4")]
    assert np.abs(frames[0] - frames[1]).mean() < 3


def test_bf16_on_a_processor_that_multiplies_float32_faster_is_float32(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("kinema.nn.precision.FLOAT32_IS_FASTER", True)
    _tell.cache_clear()
    with caplog.at_level("WARNING", logger="kinema"):
        lower = make(model, tmp_path / "a.mp4", precision="bf16")
    assert "multiplies float32 faster" in caplog.text
    assert (lower["precision"], lower["computed_in"]) == ("bf16", "float32")
    assert lower["latents_sha256"] == make(model, tmp_path / "b.mp4")["latents_sha256"]
    assert computed_in("cuda", "bf16") == torch.bfloat16


def test_bf16_keeps_what_is_given_bit_for_bit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinema.nn.precision.FLOAT32_IS_FASTER", False)
    loaded = load_model(model)
    shape = VideoShape(height=32, width=32, frames=4, fps=6.0)
    clean = torch.randn(1, *shape.latent_shape(loaded.autoencoder))
    given = Given(latents=clean, denoise_mask=torch.tensor([[False, True, True, False]]))
    made = sample_latents(
        loaded,
        "a red square moves",
        shape,
        steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
        precision="bf16",
        given=given,
    )
    assert made.dtype == torch.float32
    assert torch.equal(made[:, :, [0, 3]], clean[:, :, [0, 3]])


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision must be fp32 or bf16, got fp8"):
        GenerateConfig(prompt="a square", precision="fp8")  # type: ignore[arg-type]


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


TASKS = {
    "text": lambda clip, dark, light: {},
    "image": lambda clip, dark, light: {"image": dark},
    "extend": lambda clip, dark, light: {"task": Extend(clip=clip), "segments": 2},
    "backwards": lambda clip, dark, light: {"task": Extend(clip=clip, backwards=True, keep=2)},
    "connect": lambda clip, dark, light: {"task": Connect(start=dark, end=clip)},
    "edit": lambda clip, dark, light: {"task": Edit(clip=clip, strength=0.5)},
    "fill": lambda clip, dark, light: {"task": Edit(clip=clip, strength=1.0, fill=((2, 3),))},
    "interpolate": lambda clip, dark, light: {"task": Interpolate(sources=(dark, light), factor=3)},
    "loop": lambda clip, dark, light: {"loop": True},
    "long": lambda clip, dark, light: {"prompt": "|0|red|1|a green square moves", "segments": 3},
    "references": lambda clip, dark, light: {
        "task": FromText(
            references=(
                Reference(path=light),
                Reference(path=clip, first=-1, at=-2, strength=0.3),
                Reference(path=dark, at=-1, segment=1),
            )
        ),
        "segments": 2,
    },
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_reproduced_from_its_sidecar(
    name: str, model: Path, clip: Path, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    values = TASKS[name](clip, *pictures)
    first = make(model, tmp_path / "a.mp4", **values)
    record = json.loads((tmp_path / "a.mp4.json").read_text())
    again = generate(model, config_of(record), tmp_path / "b.mp4", Silent())
    assert again["latents_sha256"] == first["latents_sha256"]
    assert [segment["mean"] for segment in record["segments"]] == [
        segment["mean"] for segment in again["segments"]
    ]
    assert record["frames_written"] == probe(tmp_path / "a.mp4").frames
    for item in record["references"]:
        assert item["sha256"] == hashlib.sha256(Path(item["path"]).read_bytes()).hexdigest()
    files = {Path(item["path"]).name for item in record["references"]}
    assert files == {path.name for path in files_of(GenerateConfig(**{"prompt": "a"} | values).asked)}


def test_a_long_video_tells_its_drift(model: Path, tmp_path: Path) -> None:
    record = make(model, tmp_path / "a.mp4", prompt="|0|red|1|green", segments=20, overlap=1, steps=2)
    assert record["frames_written"] == 4 + 19 * 3
    assert [segment["prompt"] for segment in record["segments"]] == ["red", *["green"] * 19]
    assert record["drift"]["mean_last"] == record["segments"][-1]["mean"]


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 8, 72), (2, 56, 24), (7, 32, 32), (90, 16, 24)])
def test_any_size_and_length(model: Path, tmp_path: Path, frames: int, height: int, width: int) -> None:
    """Ninety frames are fifteen seconds of this model."""
    suffix = "png" if frames == 1 else "mp4"
    make(model, tmp_path / f"a.{suffix}", frames=frames, height=height, width=width, steps=1)
    found = probe(tmp_path / f"a.{suffix}")
    assert (found.frames, found.height, found.width) == (frames, height, width)


def test_interpolation_multiplies_the_clips_rate(model: Path, clip: Path, tmp_path: Path) -> None:
    record = make(model, tmp_path / "a.mp4", task=Interpolate(sources=(clip,), factor=2), frames=7)
    assert (record["fps"], record["frames_written"]) == (12.0, 19)


@pytest.mark.parametrize("values", [{"image": True}, {"loop": True}, {"segments": 2}, {"task": True}])
def test_a_picture_is_made_from_text_alone(
    model: Path, clip: Path, pictures: tuple[Path, Path], tmp_path: Path, values: dict[str, object]
) -> None:
    values = values | ({"image": pictures[0]} if "image" in values else {})
    values |= {"task": Extend(clip=clip)} if "task" in values else {}
    with pytest.raises(ConfigError, match="one image"):
        make(model, tmp_path / "a.png", **values)


def test_image_belongs_to_text(clip: Path, pictures: tuple[Path, Path]) -> None:
    with pytest.raises(ConfigError, match="leave it out of this task"):
        GenerateConfig(prompt="a", image=pictures[0], task=Extend(clip=clip))


@pytest.mark.slow
@pytest.mark.skipif(not FOOTAGE.is_dir(), reason="real footage is not there")
@pytest.mark.parametrize("name", ["extend", "backwards", "connect", "edit", "fill", "interpolate"])
def test_real_footage(name: str, model: Path, tmp_path: Path) -> None:
    videos = sorted((FOOTAGE / "videos").glob("*.mp4"), key=lambda path: path.stat().st_size)
    photos = sorted((FOOTAGE / "photos").glob("*.jpg"), key=lambda path: path.stat().st_size)
    record = make(model, tmp_path / "a.mp4", frames=12, **TASKS[name](videos[0], *photos[:2]))
    assert record["frames_written"] == probe(tmp_path / "a.mp4").frames > 0


@pytest.mark.parametrize("sampler", ["ddim", "euler", "heun", "dpmpp-2m"])
@pytest.mark.parametrize("schedule", ["respaced", "karras"])
def test_every_sampler_makes_video(model: Path, tmp_path: Path, sampler: str, schedule: str) -> None:
    record = make(model, tmp_path / "a.mp4", sampler=sampler, schedule=schedule)
    assert (record["sampler"], record["schedule"]) == (sampler, schedule)
    assert probe(tmp_path / "a.mp4").frames == 4
    ancestral = make(model, tmp_path / "b.mp4")
    assert ancestral["sampler"] == "ancestral"
    assert record["latents_sha256"] != ancestral["latents_sha256"]


@pytest.mark.parametrize("process", [RectifiedFlowConfig(), IDDPMConfig(timesteps="speed")])
def test_other_processes_train_and_generate(
    squares: Path, small_run: TrainConfig, tmp_path: Path, process: Process
) -> None:
    summary = train(replace(small_run, steps=3, process=process), squares, tmp_path / "run")
    assert summary["last_loss"] > 0
    record = make(tmp_path / "run", tmp_path / "a.mp4")
    assert record["sampler"] == ("euler" if isinstance(process, RectifiedFlowConfig) else "ancestral")
    if isinstance(process, RectifiedFlowConfig):
        with pytest.raises(ConfigError, match="no ancestral sampler"):
            make(tmp_path / "run", tmp_path / "b.mp4", sampler="ancestral")
