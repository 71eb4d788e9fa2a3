"""From an image network to a video network that begins as the same."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from diffusers import UNet2DConditionModel
from einops import rearrange

from kinema.convert.svd import ZERO_AT_INFLATION, inflate, inflated_key
from kinema.nn.video_unet import VideoConditioning

FRAMES, CLIPS = 5, 2


def image_unet(*channels):
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=48,
        attention_head_dim=(4, 4, 8),
        use_linear_projection=True,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()


@pytest.fixture(scope="module")
def image_network():
    torch.manual_seed(0)
    return image_unet(32, 32, 64)


@pytest.fixture(scope="module")
def folder(image_network, tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "unet"
    image_network.save_pretrained(path)
    return path


def inputs(channels=4, context=7):
    torch.manual_seed(1)
    return (
        torch.randn(CLIPS, channels, FRAMES, 16, 16),
        torch.tensor([3.0, 700.0]),
        VideoConditioning(tokens=torch.randn(CLIPS, context, 48), values=torch.rand(CLIPS, 3) * 100),
    )


def per_frame(image_network, latents, timesteps, tokens):
    frames = rearrange(latents[:, :4], "b c t h w -> (b t) c h w")
    times, tokens = (part.repeat_interleave(FRAMES, dim=0) for part in (timesteps, tokens))
    output = image_network(frames, times, tokens).sample
    return rearrange(output, "(b t) c h w -> b c t h w", t=FRAMES)


@pytest.mark.parametrize(("channels", "mix"), [(4, 0.5), (4, -3.0), (8, 0.5), (9, 0.5)])
@pytest.mark.parametrize("context", [1, 7])
def test_every_frame_is_the_image_networks(image_network, folder, channels, mix, context):
    network = inflate(folder, in_channels=channels).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("mix_factor"):
                parameter.fill_(mix)
        latents, timesteps, conditioning = inputs(channels, context)
        expected = per_frame(image_network, latents, timesteps, conditioning.tokens)
        got = network(latents, timesteps, conditioning)
    assert (got - expected).abs().max() <= 2e-6 * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize(("seed", "side", "width"), [(1, 8, 32), (2, 16, 64), (3, 8, 192)])
def test_the_difference_is_rounding(tmp_path, seed, side, width):
    torch.manual_seed(seed)
    image_network = image_unet(width, width, 2 * width)
    image_network.save_pretrained(tmp_path)
    network = inflate(tmp_path).eval()
    latents, timesteps, conditioning = inputs()
    latents = latents[..., :side]
    with torch.no_grad():
        single = network(latents, timesteps, conditioning)
        expected_single = per_frame(image_network, latents, timesteps, conditioning.tokens)
        image_network.double()
        tokens = conditioning.tokens.double()
        got = network.double()(latents.double(), timesteps, replace(conditioning, tokens=tokens))
        expected = per_frame(image_network, latents.double(), timesteps, tokens)
    scale = expected.abs().max().item()
    assert (got - expected).abs().max() <= 1e-14 * scale
    assert (single - expected_single).abs().max() <= 2e-6 * scale


def test_random_initialisation_differs(image_network, folder):
    torch.manual_seed(2)
    network = inflate(folder, initialisation="random").eval()
    latents, timesteps, conditioning = inputs()
    with torch.no_grad():
        difference = network(latents, timesteps, conditioning) - per_frame(
            image_network, latents, timesteps, conditioning.tokens
        )
    assert difference.abs().max() > 1e-2


def test_gradients_reach_every_temporal_layer_after_one_step(folder):
    torch.manual_seed(0)
    network = inflate(folder)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    latents, timesteps, conditioning = inputs()
    target = torch.randn_like(latents)
    for _ in range(2):
        optimizer.zero_grad()
        ((network(latents, timesteps, conditioning) - target) ** 2).mean().backward()
        still = {
            name for name, parameter in network.temporal_parameters().items() if not parameter.grad.any()
        }
        optimizer.step()
    assert not still


def test_keys_are_the_measured_ones(read, folder):
    facts = read("svd/inflation/inflation_small").facts
    assert {key: inflated_key(key) for key in facts["key_map"]} == facts["key_map"]
    zeroed = {key for key in facts["new_keys"] if ZERO_AT_INFLATION.search(key)}
    assert zeroed == {key for key in facts["new_keys"] if re.search(facts["zero_regex"], key)}
    assert len(zeroed) > 50
