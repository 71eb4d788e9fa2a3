"""Folders of the video UNet: round trips with diffusers, sharded and half-precision files, errors."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from safetensors.torch import load_file, save_file

from kinema.convert.svd import (
    config_from_diffusers,
    config_to_diffusers,
    diffusers_network,
    from_original,
    inflate,
    load_exactly,
    load_video_unet,
    original_key_map,
    save_video_unet,
)
from kinema.errors import CheckpointError
from kinema.nn.video_unet import Condition, VideoConditioning, VideoUNet, VideoUNetConfig

SMALL = VideoUNetConfig(channels=(32, 64), layers=1, heads=(2, 4), attention=(True, False), context_width=24)
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def network():
    torch.manual_seed(0)
    return VideoUNet(SMALL).eval()


@pytest.fixture
def folder(network, tmp_path):
    save_video_unet(network, tmp_path / "unet")
    return tmp_path / "unet"


def same_weights(ours, theirs):
    ours, theirs = ours.state_dict(), theirs.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_there_and_back(network, folder, tmp_path):
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(folder).eval()
    assert same_weights(network, theirs)
    latents, context = torch.randn(1, 8, 3, 8, 8), torch.randn(1, 1, 24)
    c_noise, values = torch.tensor([0.3]), torch.tensor([[6.0, 127.0, 0.02]])
    with torch.no_grad():
        expected = theirs(latents.transpose(1, 2), c_noise, context, values).sample.transpose(1, 2)
        got = network(latents, c_noise, VideoConditioning(tokens=context, values=values))
    # Their stock class has another GroupNorm epsilon in some blocks.
    assert (got - expected).abs().max() <= 1e-4
    theirs.save_pretrained(tmp_path / "back")
    back = load_video_unet(tmp_path / "back")
    assert back.config == network.config
    assert same_weights(network, back)


def test_sharded(network, folder, tmp_path):
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(folder)
    theirs.save_pretrained(tmp_path / "shards", max_shard_size="1MB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    assert same_weights(network, load_video_unet(tmp_path / "shards"))
    next((tmp_path / "shards").glob("*00002-of*")).unlink()
    with pytest.raises(CheckpointError, match=r"00002-of-.*safetensors"):
        load_video_unet(tmp_path / "shards")


@pytest.mark.parametrize("shard_size", ["1MB", "1GB"])
def test_half_precision_files(network, folder, tmp_path, shard_size):
    theirs = UNetSpatioTemporalConditionModel.from_pretrained(folder).half()
    theirs.save_pretrained(tmp_path / "half", variant="fp16", max_shard_size=shard_size)
    assert not (tmp_path / "half" / WEIGHTS).exists()
    loaded = load_video_unet(tmp_path / "half")
    assert loaded.conv_in.weight.dtype == torch.float32
    for key, value in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[key], value.half().float(), rtol=0, atol=0)
    half = load_video_unet(tmp_path / "half", dtype=torch.float16)
    assert half.conv_in.weight.dtype == torch.float16


def rewrite(folder, change):
    state = load_file(folder / WEIGHTS)
    change(state)
    save_file(state, folder / WEIGHTS)


KEY = "mid_block.resnets.0.temporal_res_block.conv1.weight"


def test_a_wrong_shape_names_the_key_and_both_shapes(folder):
    rewrite(folder, lambda state: state.update({KEY: torch.zeros(64, 64, 1, 1, 1)}))
    with pytest.raises(CheckpointError, match=rf"{KEY}.*\(64, 64, 1, 1, 1\).*\(64, 64, 3, 1, 1\)"):
        load_video_unet(folder)


def test_missing_and_unknown_keys_are_named(folder):
    rewrite(folder, lambda state: state.pop(KEY))
    with pytest.raises(CheckpointError, match=f"1 keys are missing, first {KEY}"):
        load_video_unet(folder)
    rewrite(folder, lambda state: state.update({KEY: torch.zeros(64, 64, 3, 1, 1), "odd": torch.zeros(1)}))
    with pytest.raises(CheckpointError, match="not of this network, first odd"):
        load_video_unet(folder)


def test_broken_folders_are_named(folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere/config\.json"):
        load_video_unet(tmp_path / "nowhere")
    (folder / WEIGHTS).write_bytes(b"not tensors")
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_video_unet(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=f"has no {WEIGHTS}"):
        load_video_unet(folder)
    (folder / f"{WEIGHTS}.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="no weight_map"):
        load_video_unet(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not JSON"):
        load_video_unet(folder)


def test_another_kind_of_network_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    config["down_block_types"] = ["DownBlock2D", "DownBlock2D"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="DownBlock2D"):
        load_video_unet(folder)


def test_a_config_that_does_not_fit_itself_is_refused():
    wrong = config_to_diffusers(SMALL) | {"num_attention_heads": [2, 4, 8]}
    with pytest.raises(CheckpointError, match="one entry per level, got 2, 3 and 2"):
        config_from_diffusers(wrong)


def test_a_fourth_condition_must_be_named(tmp_path):
    named = (*SMALL.conditions, Condition(name="elevation"))
    network = VideoUNet(replace(SMALL, conditions=named))
    save_video_unet(network, tmp_path)
    with pytest.raises(CheckpointError, match=r"is 1024.*fps, motion, augmentation are 768.*conditions"):
        load_video_unet(tmp_path)
    assert load_video_unet(tmp_path, conditions=named).config.conditions == named
    assert same_weights(network, UNetSpatioTemporalConditionModel.from_pretrained(tmp_path))


def test_angles_cannot_be_told_to_diffusers(tmp_path):
    network = VideoUNet(replace(SMALL, conditions=(Condition(name="azimuth", angle=True),)))
    with pytest.raises(CheckpointError, match="no angles"):
        save_video_unet(network, tmp_path / "unet")


def test_original_keys_with_and_without_their_prefix(network):
    names = {ours: theirs for theirs, ours in original_key_map(SMALL).items()}
    original = {names[key]: value for key, value in network.state_dict().items()}
    whole = {f"model.diffusion_model.{key}": value for key, value in original.items()}
    for state in (original, whole | {"first_stage_model.x": torch.zeros(1)}):
        other = VideoUNet(SMALL)
        load_exactly(other, from_original(state, SMALL), "original")
        assert same_weights(network, other)
    original.pop("out.2.bias")
    with pytest.raises(CheckpointError, match=r"original weights.*first out\.2\.bias"):
        from_original(original, SMALL)


def test_inflation_names_what_does_not_fit(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"down_block_types": ["DownBlock2D"]}))
    save_file({"conv_in.weight": torch.zeros(32, 4, 3, 3)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="lacks block_out_channels, in_channels, out_channels"):
        inflate(tmp_path)


def test_the_peer_of_the_benchmark_has_our_keys(network):
    assert diffusers_network(SMALL).state_dict().keys() == network.state_dict().keys()
