from __future__ import annotations

import math
import os
import shutil
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.config import find_recipe, load_config
from kinema.conventions import CONVENTIONS
from kinema.dataset.buckets import BucketRule
from kinema.dataset.plan import make_plan
from kinema.dataset.presets import STAGES
from kinema.diffusion.guidance import Guidance
from kinema.diffusion.masking import MaskConfig
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.encoders.autoencoder_kl import CausalAutoencoderConfig, FrameAutoencoderConfig
from kinema.encoders.embedded import WordTextEncoder
from kinema.encoders.latent_frames import TimeGrid
from kinema.encoders.text import T5Config
from kinema.errors import ConfigError, DatasetError, Interrupted
from kinema.generate.tasks import FromText, Request, plan_of
from kinema.generate.windows import Settings, sample_windows
from kinema.manifest import Caption, read_clips, write_clips
from kinema.model import load_model
from kinema.nn import STDiT2Config
from kinema.runlog import learned, read_metrics
from kinema.train.checkpoints import load_checkpoint
from kinema.train.config import StageConfig, TrainConfig
from kinema.train.encoders import with_encoders
from kinema.train.loop import train
from kinema.train.optim import AdamWConfig, MuonConfig
from kinema.train.sizes import RunEncoders
from kinema.train.stages import at_rate, stage_config, stages, whole_chain

IMAGES = BucketRule(resolution="32px", frames=1)
CHAIN = (
    StageConfig(name="images", steps=2, buckets=(IMAGES,), masks=MaskConfig()),
    StageConfig(name="short", steps=4, lr=0.01, buckets=(BucketRule(resolution="32px", frames=4),)),
    StageConfig(name="all", steps=2, batch_size=2, gradient_checkpointing=True),
)


@pytest.fixture
def chained(small_run: TrainConfig) -> TrainConfig:
    return replace(small_run, stage=CHAIN, save_every=3)


def last(run: Path, step: int) -> dict[str, Any]:
    checkpoint = load_checkpoint(run / "checkpoints" / f"step-{step:08d}")
    return {f"{g}/{k}": tensor for g, tensors in checkpoint.groups.items() for k, tensor in tensors.items()}


def assert_same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for key, tensor in first.items():
        assert torch.equal(tensor, second[key]), key


def stop_after(step: int) -> Any:
    class Stopping:
        done = 0

        def stage(self, name: str, total: int | None = None) -> None:
            self.done = 0

        def line(self, text: str) -> None: ...

        def advance(self, steps: int = 1, note: str = "") -> None:
            self.done += steps
            if self.done == step and steps:
                os.kill(os.getpid(), signal.SIGTERM)

    return Stopping()


def test_a_chain_is_its_stages_one_after_the_other(
    squares: Path, chained: TrainConfig, tmp_path: Path
) -> None:
    summary = train(chained, squares, tmp_path / "chain")
    assert summary["steps"] == 8
    names = [row["stage"] for row in read_metrics(tmp_path / "chain")]
    assert names == ["images"] * 2 + ["short"] * 4 + ["all"] * 2
    assert set(summary["last_loss_by_frames"]) >= {"1", "4"}
    before = None
    for number, stage in enumerate(CHAIN):
        alone = replace(stage_config(chained, stage, number), start_from=before)
        before = tmp_path / stage.name
        train(alone, squares, before)
    assert_same(last(tmp_path / "chain", 8), last(tmp_path / "all", 2))


def test_resume_inside_the_second_stage_is_exact(squares: Path, chained: TrainConfig, tmp_path: Path) -> None:
    train(chained, squares, tmp_path / "whole")
    with pytest.raises(Interrupted, match="after step 4 of 8"):
        train(chained, squares, tmp_path / "halves", progress=stop_after(4))
    assert train(chained, squares, tmp_path / "halves", resume=True)["resumed_from"] == 4
    assert_same(last(tmp_path / "whole", 8), last(tmp_path / "halves", 8))
    rows = [learned(read_metrics(tmp_path / name)) for name in ("whole", "halves")]
    assert rows[0] == rows[1]


def test_a_stage_changes_what_it_names(chained: TrainConfig) -> None:
    first, second, third = (stage.config for stage in stages(chained))
    assert (first.masks, second.masks) == (MaskConfig(), chained.masks)
    assert [config.data.seed - chained.data.seed for config in (first, second, third)] == [0, 1, 2]
    assert third.data.buckets == chained.data.buckets
    assert (third.data.batch_size, third.gradient_checkpointing) == (2, True)
    assert [(stage.first, stage.end) for stage in stages(chained)] == [(0, 2), (2, 6), (6, 8)]
    assert whole_chain(chained).steps == 8
    scaled = at_rate(MuonConfig(lr=0.02, adamw=AdamWConfig(lr=2e-3)), 0.01)
    assert isinstance(scaled, MuonConfig)
    assert math.isclose(scaled.adamw.lr, 1e-3)
    with pytest.raises(ValueError, match="same name"):
        replace(chained, stage=(CHAIN[0], CHAIN[0]))


def test_every_stage_is_planned_before_the_first_step(
    squares: Path, chained: TrainConfig, tmp_path: Path
) -> None:
    hopeless = StageConfig(name="long", steps=2, buckets=(BucketRule(resolution="32px", frames=400),))
    with pytest.raises(DatasetError, match="nothing to train on"):
        train(replace(chained, stage=(*CHAIN, hopeless)), squares, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "steps"), [("stage1", 81_000), ("stage2", 22_000), ("stage3", 4_000)])
def test_the_published_stages(name: str, steps: int, squares: Path) -> None:
    config = load_config(TrainConfig, find_recipe(f"open-sora-{name}"))
    assert config.data.buckets == STAGES[name]
    assert config.masks == MaskConfig.published()
    assert (config.steps, config.optim) == (steps, AdamWConfig(lr=2e-5, betas=(0.9, 0.999)))
    assert config.gradient_checkpointing == (name != "stage1")
    assert (config.preset, config.ema_decay) == ("published", 0.9999)
    autoencoder, text_encoder = config.autoencoder, config.text_encoder
    assert isinstance(autoencoder, FrameAutoencoderConfig)
    assert isinstance(text_encoder, T5Config)
    with pytest.raises(DatasetError, match="nothing to train on"):
        make_plan(squares, config.data)


def test_the_published_network_follows_from_preset_and_encoders() -> None:
    from kinema.encoders.autoencoder_kl import FrameAutoencoder
    from kinema.encoders.text import T5TextEncoder

    config = load_config(TrainConfig, find_recipe("open-sora-stage2"))
    autoencoder = FrameAutoencoder(FrameAutoencoderConfig())
    filled = with_encoders(config, RunEncoders(autoencoder, T5TextEncoder(T5Config())), None)
    assert filled.network == STDiT2Config.xl2()
    assert CONVENTIONS[filled.preset].guided_channels == 3


def test_the_small_chain_loads() -> None:
    config = load_config(TrainConfig, find_recipe("small"))
    assert [stage.name for stage in stages(config)] == ["low", "longer", "larger"]


def test_training_on_published_encoders(
    squares: Path, small_run: TrainConfig, tmp_path: Path, published_encoders: Path
) -> None:
    config = replace(
        small_run,
        preset="published",
        autoencoder=FrameAutoencoderConfig(source=str(published_encoders / "vae")),
        text_encoder=T5Config(source=str(published_encoders / "t5"), width=24, max_tokens=8),
        optim=AdamWConfig(lr=1e-3),
        steps=2,
        save_every=2,
    )
    train(config, squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert (model.preset, model.network.config.rope_first) == ("published", True)
    assert not (tmp_path / "run" / "text_encoder").exists()
    train(replace(config, steps=3), squares, tmp_path / "run", resume=True)


def test_training_and_going_on_in_compressed_time(
    squares: Path, small_run: TrainConfig, tmp_path: Path, published_encoders: Path
) -> None:
    temporal = CausalAutoencoderConfig(
        source=str(published_encoders / "cogvideox"), subfolder="", latent_channels=6
    )
    config = replace(small_run, autoencoder=temporal, steps=1, save_every=1)
    with pytest.raises(ConfigError, match=r"frames = 4: .* takes 1 \+ 4 k frames; make it 5 or 1"):
        train(config, squares, tmp_path / "wrong")
    five = replace(config.data, buckets=(BucketRule(resolution="32px", frames=5),))
    train(replace(config, data=five), squares, tmp_path / "run")
    model = load_model(tmp_path / "run")
    assert model.sampling.frames == 5
    settings = Settings(height=32, width=32, fps=6.0, steps=2, guidance=Guidance(scale=1.0))
    request = Request(prompts=("a", "b", "c"), frames=9, fps=6.0, grid=TimeGrid(4), overlap=5)
    with torch.inference_mode():
        made = list(sample_windows(model, plan_of(FromText(), request), settings, torch.Generator()))
        assert [len(window.frames) for window in made] == [9, 4, 4]
        for before, after in pairwise(made):
            end = model.autoencoder.decode(before.latents)[:, :, -5:].clamp(-1, 1)
            assert torch.equal(after.latents[:, :, :2], model.autoencoder.encode(end))


def test_a_run_learns_the_words_that_its_captions_add(
    squares: Path, chained: TrainConfig, tmp_path: Path
) -> None:
    alone = stage_config(chained, CHAIN[0], 0)
    train(alone, squares, tmp_path / "first")
    known = load_model(tmp_path / "first", ema=False).text_encoder
    assert isinstance(known, WordTextEncoder)
    told = tmp_path / "told"
    shutil.copytree(squares, told)
    rows = [replace(clip, captions=(Caption(text="a zebra", kind="table"),)) for clip in read_clips(squares)]
    for part in (told / "clips").glob("*.parquet"):
        part.unlink()
    write_clips(told, "all", rows)
    train(replace(alone, start_from=tmp_path / "first"), told, tmp_path / "second")
    taught = load_model(tmp_path / "second", ema=False).text_encoder
    assert isinstance(taught, WordTextEncoder)
    assert taught.vocabulary[: len(known.vocabulary)] == known.vocabulary
    assert taught.unknown_words("a zebra") == []
    assert known.unknown_words("a zebra") == ["zebra"]


def test_a_run_may_add_the_gate_that_keeps_given_frames(
    squares: Path, small_run: TrainConfig, tmp_path: Path
) -> None:
    first = replace(small_run, process=RectifiedFlowConfig(prediction="clean"), steps=2, save_every=2)
    train(first, squares, tmp_path / "first")
    before = load_model(tmp_path / "first", ema=False).network
    gated = replace(first, network=replace(STDiT2Config(), keeps_given=True, learned_variance=False))
    train(replace(gated, start_from=tmp_path / "first"), squares, tmp_path / "second")
    after = load_model(tmp_path / "second", ema=False).network
    assert {*after.state_dict()} - {*before.state_dict()} == {
        "final_layer.given_gate.linear.weight",
        "final_layer.given_gate.linear.bias",
    }
    assert after.get_parameter("final_layer.given_gate.linear.bias").any()
    train(replace(first, start_from=tmp_path / "second"), squares, tmp_path / "third")
    assert getattr(load_model(tmp_path / "third").network.config, "keeps_given", False)


def test_the_gate_is_for_clean_latents(squares: Path, small_run: TrainConfig, tmp_path: Path) -> None:
    gated = replace(small_run.network, keeps_given=True, learned_variance=False)
    config = replace(small_run, network=gated, process=RectifiedFlowConfig())
    with pytest.raises(ConfigError, match=r'network.keeps_given: set process.prediction to "clean"'):
        train(config, squares, tmp_path / "run")
