"""The video UNet against outputs of the original implementation and against diffusers' class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from einops import rearrange

from kinema.convert.svd import (
    config_from_diffusers,
    config_to_diffusers,
    from_original,
    load_exactly,
    original_key_map,
)
from kinema.nn.video_unet import VideoConditioning, VideoUNet, VideoUNetConfig

ORIGINAL = "svd/sgm_video_unet"


@pytest.fixture
def original(read):
    """The small original model's network, inputs and number of frames."""
    meta = read(f"{ORIGINAL}/meta").facts
    config = config_from_diffusers(meta["diffusers_config"])
    weights = read(f"{ORIGINAL}/state_dict_fp16").tensors
    network = VideoUNet(config).eval()
    load_exactly(network, from_original({k: v.float() for k, v in weights.items()}, config), ORIGINAL)
    return network, read(f"{ORIGINAL}/io_fp32").tensors, meta


def image_only(name, clips, frames):
    """Which frames the outputs of this name were computed with as images; per clip."""
    flags = torch.zeros(clips, dtype=torch.bool)
    if name.endswith("image_only"):
        flags[:] = True
    elif "image_only_second" in name:
        flags[1] = True
    return flags


def run(network, tensors, meta, name):
    frames = meta["T"]
    suffix = next((part for part in ("context_len2",) if part in name), "context")
    conditioning = VideoConditioning(
        tokens=tensors[suffix],
        values=tensors["added_time_ids"],
        image_only=image_only(name, meta["B"], frames),
    )
    latents = rearrange(tensors["x"], "(b t) c h w -> b c t h w", t=frames)
    with torch.no_grad():
        output = network(latents, tensors["c_noise"], conditioning)
    return rearrange(output, "b c t h w -> (b t) c h w")


def test_outputs_of_the_original(original):
    network, tensors, meta = original
    names = [name for name in tensors if name.startswith("out")]
    assert len(names) >= 5
    for name in names:
        stock = replace(network.config, group_norm_eps="diffusers" if "stock" in name else "published")
        variant = VideoUNet(stock)
        variant.load_state_dict(network.state_dict())
        error = (run(variant, tensors, meta, name) - tensors[name]).abs().max().item()
        assert error <= 2e-5, f"{name}: {error:.2e}"


def test_per_frame_inputs_equal_per_clip_ones(original):
    network, tensors, meta = original
    frames = meta["T"]
    latents = rearrange(tensors["x"], "(b t) c h w -> b c t h w", t=frames)
    conditioning = VideoConditioning(
        tokens=tensors["context"][:, None].expand(-1, frames, -1, -1),
        values=tensors["added_time_ids"][:, None].expand(-1, frames, -1),
        image_only=torch.zeros(meta["B"], frames, dtype=torch.bool),
    )
    with torch.no_grad():
        output = network(latents, rearrange(tensors["timesteps"], "(b t) -> b t", t=frames), conditioning)
    assert (rearrange(output, "b c t h w -> (b t) c h w") - tensors["out"]).abs().max() <= 2e-5


@pytest.mark.parametrize(("name", "kind"), [("keymap_small", "small"), ("keymap_full_svd", "full")])
def test_key_map(read, name, kind):
    expected = read(f"{ORIGINAL}/{name}").facts
    expected = expected.get("key_map", expected)
    meta = read(f"{ORIGINAL}/meta").facts
    config = config_from_diffusers(meta["diffusers_config"]) if kind == "small" else VideoUNetConfig.svd()
    assert original_key_map(config) == expected


def test_full_size_has_the_published_keys_and_shapes(read):
    published = read("svd/diffusers_keys/unet_svd").facts
    config = config_from_diffusers(published["config"])
    with torch.device("meta"):
        network = VideoUNet(config)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == published["shapes"]
    assert sum(parameter.numel() for parameter in network.parameters()) == published["params"]
    assert config == VideoUNetConfig.svd()


SMALL = VideoUNetConfig(
    channels=(32, 64),
    layers=1,
    heads=(2, 4),
    attention=(True, False),
    context_width=24,
    group_norm_eps="diffusers",
)
CASES = {
    "two levels": (SMALL, (2, 3, 16, 16), 1),
    "many tokens": (SMALL, (1, 5, 8, 16), 7),
    "odd sizes": (
        replace(SMALL, channels=(32, 32, 32), heads=(1, 2, 4), attention=(True, True, True)),
        (1, 2, 13, 10),
        2,
    ),
    "one frame": (SMALL, (2, 1, 8, 8), 1),
    "40 frames": (replace(SMALL, channels=(32,), heads=(2,), attention=(True,)), (1, 40, 4, 4), 3),
    "two layers, deep": (replace(SMALL, layers=2, transformer_depth=2, in_channels=9), (1, 4, 8, 8), 1),
}


@pytest.mark.parametrize("case", CASES)
def test_same_as_diffusers_on_shared_weights(case):
    from diffusers import UNetSpatioTemporalConditionModel

    config, (batch, frames, height, width), tokens = CASES[case]
    torch.manual_seed(0)
    theirs = UNetSpatioTemporalConditionModel.from_config(config_to_diffusers(config)).eval()
    ours = VideoUNet(config).eval()
    load_exactly(ours, theirs.state_dict(), "diffusers")
    latents = torch.randn(batch, config.in_channels, frames, height, width)
    c_noise, context = torch.randn(batch), torch.randn(batch, tokens, config.context_width)
    values = torch.rand(batch, 3) * 100
    with torch.no_grad():
        expected = theirs(latents.transpose(1, 2), c_noise, context, values).sample.transpose(1, 2)
        got = ours(latents, c_noise, VideoConditioning(tokens=context, values=values))
    assert (got - expected).abs().max() <= 5e-5


def test_same_gradients_as_diffusers():
    from diffusers import UNetSpatioTemporalConditionModel

    torch.manual_seed(0)
    config = replace(SMALL, group_norm_eps="diffusers")
    theirs = UNetSpatioTemporalConditionModel.from_config(config_to_diffusers(config))
    ours = VideoUNet(config)
    ours.load_state_dict(theirs.state_dict())
    latents, context, values = torch.randn(1, 8, 4, 8, 8), torch.randn(1, 1, 24), torch.rand(1, 3) * 100
    target = torch.randn(1, 4, 4, 8, 8)
    c_noise = torch.tensor([0.3])
    (
        theirs(latents.transpose(1, 2), c_noise, context, values).sample.transpose(1, 2) * target
    ).sum().backward()
    (ours(latents, c_noise, VideoConditioning(tokens=context, values=values)) * target).sum().backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(grad.abs().max().item() for grad in expected.values())
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        scale = expected[name].abs().max().item() + 1e-2 * largest
        assert (parameter.grad - expected[name]).abs().max().item() <= 1e-4 * scale, name
