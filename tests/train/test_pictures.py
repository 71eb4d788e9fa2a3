"""Networks that are shown pictures: what is drawn, what is shown, and whole small runs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.dataset.buckets import BucketRule
from kinema.denoiser.pictures import blend, compared
from kinema.errors import ConfigError
from kinema.generate.pipeline import GenerateConfig, generate
from kinema.generate.tasks import Interpolate
from kinema.model import load_model
from kinema.nn import VideoUNet
from kinema.nn.video_unet import Condition, image_to_video_conditions
from kinema.progress import Silent
from kinema.train.checkpoints import latest_checkpoint
from kinema.train.config import PicturesConfig, PreviewConfig, StageConfig, TrainConfig
from kinema.train.loop import train
from kinema.train.pictures import draw_pictures


@pytest.fixture
def i2v_run(small_unet_run: TrainConfig) -> TrainConfig:
    data = replace(small_unet_run.data, buckets=(BucketRule(resolution="32px", frames=4),))
    return replace(small_unet_run, task="image-to-video", data=data, steps=2, save_every=2)


@pytest.fixture
def between_run(i2v_run: TrainConfig) -> TrainConfig:
    data = replace(i2v_run.data, buckets=(BucketRule(resolution="32px", frames=5),))
    return replace(i2v_run, task="interpolation", data=data)


def test_draws_depend_on_their_own_seed_only() -> None:
    config = PicturesConfig()
    alone, beside = draw_pictures([7], (3, 4, 4), config, 1), draw_pictures([3, 7], (3, 4, 4), config, 1)
    assert torch.equal(alone.augmentation.noise[0], beside.augmentation.noise[1])
    assert alone.augmentation.sigma[0] == beside.augmentation.sigma[1]
    assert not torch.equal(beside.augmentation.noise[0], beside.augmentation.noise[1])


def test_pictures_are_left_out_at_their_rates_and_noised_as_published() -> None:
    config = PicturesConfig(drop_tokens=0.1, drop_latents=0.2, drop_both=0.3)
    draws = draw_pictures(list(range(3000)), (1,), config, 0)
    tokens, latents = draws.tokens_dropped, draws.latents_dropped
    shares = [(tokens & ~latents), (latents & ~tokens), (tokens & latents)]
    assert [share.float().mean().item() for share in shares] == pytest.approx([0.1, 0.2, 0.3], abs=0.03)
    logs = draws.augmentation.sigma.log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((-3.0, 0.5), abs=0.05)


def test_a_picture_moves(squares: Path, i2v_run: TrainConfig, tmp_path: Path) -> None:
    watched = replace(i2v_run, preview=PreviewConfig(every=2, steps=2, guidance_first=1.0))
    train(watched, squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert isinstance(model.network, VideoUNet)
    assert (model.task, model.network.config.in_channels) == ("image-to-video", 12)
    assert len(list((tmp_path / "run" / "samples").glob("*.mp4"))) == 2
    picture = tmp_path / "picture.png"
    picture.write_bytes(_png(tmp_path))
    config = GenerateConfig(prompt="", image=picture, steps=2, guidance_scale=2.0, guidance_first=1.0)
    made = generate(tmp_path / "run", config, tmp_path / "a.mp4", Silent())
    assert (made["frames_written"], made["task"], made["guidance_first"]) == (4, "image-to-video", 1.0)
    still = generate(tmp_path / "run", replace(config, augmentation=0.5), tmp_path / "b.mp4", Silent())
    assert still["latents_sha256"] != made["latents_sha256"]
    longer = generate(tmp_path / "run", replace(config, segments=2), tmp_path / "c.mp4", Silent())
    assert longer["frames_written"] == 7
    with pytest.raises(ConfigError, match="moves a picture and takes no text"):
        generate(tmp_path / "run", GenerateConfig(prompt="a square"), tmp_path / "d.mp4", Silent())


def test_frames_are_found_between_those_of_a_clip(
    squares: Path, between_run: TrainConfig, tmp_path: Path
) -> None:
    train(between_run, squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert isinstance(model.network, VideoUNet)
    assert (model.task, model.network.config.in_channels) == ("interpolation", 13)
    assert model.network.placeholder.any()
    clip = squares.parent / "red.mp4"
    config = GenerateConfig(prompt="", task=Interpolate(sources=(clip,)), steps=2, height=32, width=32)
    made = generate(tmp_path / "run", config, tmp_path / "a.mp4", Silent())
    assert made["frames_written"] == 4 * 23 + 1
    with pytest.raises(ConfigError, match="use --factor 4"):
        generate(
            tmp_path / "run",
            replace(config, task=Interpolate(sources=(clip,), factor=2)),
            tmp_path / "b.mp4",
            Silent(),
        )


def test_what_a_blend_misses_is_a_share_of_how_far_its_frames_are_apart() -> None:
    ends = torch.zeros(1, 2, 2, 4, 6)
    ends[:, 0, 1, :, :3] = 2.0
    shown = blend(ends, 5)
    assert shown.mean[0, 0, :, 0, 0].tolist() == [0.0, 0.5, 1.0, 1.5, 2.0]
    spread = shown.spread[0, 0, 3, 1]
    assert spread.tolist() == pytest.approx([2.0, 2.0, 2 * (2 / 3) ** 0.5, 2 * (1 / 3) ** 0.5, 1e-3, 1e-3])
    assert shown.spread[0, 1].unique().tolist() == pytest.approx([1e-3])
    latents = torch.randn(1, 2, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(shown.with_missed(shown.missed_in(latents)), latents)


def test_two_frames_are_shown_beside_each_other() -> None:
    """How they differ tells no size, which is a channel of its own; frames know their place."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.randn(2, 3, 2, 12, 16, generator=generator)
    ends[1] = ends[0, :, :1] + 0.1 * (ends[0] - ends[0, :, :1])
    shown = compared(blend(ends, 5))
    assert shown.shape == (2, 8, 5, 12, 16)
    apart, texture, size, way = shown.split([3, 3, 1, 1], dim=1)
    torch.testing.assert_close(apart[1], apart[0])
    torch.testing.assert_close(size[0] - size[1], torch.full_like(size[0], math.log(10) / 2))
    assert texture.square().mean().item() == pytest.approx(1.0)
    assert way[0, 0, :, 0, 0].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    turned = compared(blend(ends.flip(2), 5))
    torch.testing.assert_close(turned[:, :3], -apart)
    torch.testing.assert_close(turned[:, 3:7], shown[:, 3:7])


def test_errors_over_a_blend_count_as_errors_of_the_latents() -> None:
    ends = torch.randn(2, 3, 2, 12, 16, generator=torch.Generator().manual_seed(0))
    ends[1, :, 1] = ends[1, :, 0] + 0.01 * ends[1, :, 1]
    shown = blend(ends, 5)
    torch.testing.assert_close(shown.counts.square().mean((1, 2, 3, 4)), torch.ones(2))
    ratio = shown.spread / shown.counts
    torch.testing.assert_close(ratio, ratio[:, :1, :, :1, :1].expand_as(ratio))


def test_a_network_along_the_flow_is_shown_what_is_carried(
    squares: Path, between_run: TrainConfig, tmp_path: Path
) -> None:
    """Its input channels are those, and it has no placeholder."""
    network = replace(between_run.network, along_flow=True)
    train(replace(between_run, network=network, steps=1, save_every=1), squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.network.config.along_flow
    assert model.network.config.placeholder is None
    assert model.network.config.in_channels == 3 * model.network.config.out_channels + 2


def test_image_to_video_goes_on_from_text_to_video(
    squares: Path, small_unet_run: TrainConfig, i2v_run: TrainConfig, tmp_path: Path
) -> None:
    """The new input channels and conditions begin at zero: at first it makes what it made."""
    train(replace(small_unet_run, steps=2, save_every=2), squares, tmp_path / "base")
    conditions = (*image_to_video_conditions(), Condition(name="lens", width=32, angle=True))
    config = replace(
        i2v_run,
        start_from=tmp_path / "base",
        network=replace(i2v_run.network, conditions=conditions),
        optim=replace(i2v_run.optim, lr=1e-9),
        ema_decay=0.0,
    )
    train(config, squares, tmp_path / "run")
    before, after = load_model(tmp_path / "base", ema=False), load_model(tmp_path / "run", ema=False)
    old, new = before.network.conv_in.weight, after.network.conv_in.weight
    torch.testing.assert_close(new[:, : old.shape[1]], old, rtol=1e-4, atol=1e-6)
    assert new[:, old.shape[1] :].abs().max() < 1e-6
    assert after.network.config.condition_width == before.network.config.condition_width + 32
    assert after.motion == before.motion


def test_only_the_time_embedding_changes_in_the_first_stage(
    squares: Path, small_unet_run: TrainConfig, tmp_path: Path
) -> None:
    stages = (
        StageConfig(name="adapt", steps=2, trains="time-embedding", p_mean=-1.2),
        StageConfig(name="all", steps=2, p_mean=0.5, p_std=1.4),
    )
    train(replace(small_unet_run, steps=2, save_every=2), squares, tmp_path / "base")
    config = replace(small_unet_run, start_from=tmp_path / "base", save_every=2)
    for folder, chain in (("one", stages[:1]), ("two", stages)):
        train(replace(config, stage=chain), squares, tmp_path / folder)
    states = {}
    for folder in ("base", "one", "two"):
        found = latest_checkpoint(tmp_path / folder / "checkpoints")
        assert found is not None
        states[folder] = found.groups["network"]
    before = states["base"]
    changed = {name for name, tensor in states["one"].items() if not torch.equal(tensor, before[name])}
    assert {name.partition(".")[0] for name in changed} == {"time_embedding"}
    assert not torch.equal(states["two"]["conv_in.weight"], before["conv_in.weight"])


def test_a_transformer_is_not_shown_pictures(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is for a video-unet"):
        train(replace(small_run, task="image-to-video"), squares, tmp_path / "run")


def _png(folder: Path) -> bytes:
    import numpy as np

    from kinema.video.writer import write_image

    picture = np.full((40, 48, 3), 90, np.uint8)
    picture[10:22, 4:16] = (220, 40, 40)
    write_image(folder / "made.png", picture)
    return (folder / "made.png").read_bytes()
