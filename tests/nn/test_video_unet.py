"""The video UNet: image-only frames, gradient checkpointing, conditions, what it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from kinema.nn import STDiT2, STDiT2Config, build_network, unet_blocks
from kinema.nn.video_unet import Condition, VideoConditioning, VideoUNet, VideoUNetConfig

SMALL = VideoUNetConfig(
    channels=(32, 64), layers=1, heads=(2, 4), attention=(True, False), context_width=24, in_channels=4
)


def build(config=SMALL):
    torch.manual_seed(0)
    return VideoUNet(config)


def inputs(config=SMALL, batch=2, frames=3, tokens=2):
    generator = torch.Generator().manual_seed(1)
    conditioning = VideoConditioning(
        tokens=torch.randn(batch, tokens, config.context_width, generator=generator),
        values=torch.rand(batch, len(config.conditions), generator=generator) * 100,
    )
    latents = torch.randn(batch, config.in_channels, frames, 8, 8, generator=generator)
    return latents, torch.linspace(-1, 1, batch), conditioning


def test_image_only_frames_do_not_see_each_other():
    network = build().eval()
    latents, c_noise, conditioning = inputs()
    images = replace(conditioning, image_only=torch.ones(2, dtype=torch.bool))
    changed = latents.clone()
    changed[:, :, 1:] = 0
    with torch.no_grad():
        assert torch.equal(
            network(latents, c_noise, images)[:, :, 0], network(changed, c_noise, images)[:, :, 0]
        )
        assert not torch.equal(
            network(latents, c_noise, conditioning)[:, :, 0], network(changed, c_noise, conditioning)[:, :, 0]
        )


def test_a_batch_of_images_skips_the_temporal_layers(monkeypatch):
    network = build().eval()
    latents, c_noise, conditioning = inputs()
    mixed = replace(conditioning, image_only=torch.tensor([True, False]))
    images = replace(conditioning, image_only=torch.ones(2, 3, dtype=torch.bool))
    with torch.no_grad():
        beside_a_video = network(latents, c_noise, mixed)

        def refuse(*_, **__):
            pytest.fail("a temporal layer ran")

        monkeypatch.setattr(unet_blocks.TemporalBlock, "forward", refuse)
        monkeypatch.setattr(unet_blocks.TemporalResBlock, "forward", refuse)
        alone = network(latents, c_noise, images)
    torch.testing.assert_close(alone[0], beside_a_video[0], rtol=0, atol=2e-6)


def test_images_give_the_temporal_layers_gradient_zero_not_none():
    network = build()
    latents, c_noise, conditioning = inputs()
    images = replace(conditioning, image_only=torch.ones(2, dtype=torch.bool))
    network(latents, c_noise, images).square().mean().backward()
    temporal = network.temporal_parameters()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert name not in temporal or not parameter.grad.any(), name
    assert network.conv_in.weight.grad.any()


@pytest.mark.parametrize("image_only", [None, torch.tensor([True, False]), torch.tensor([True, True])])
def test_gradient_checkpointing_changes_no_gradient(image_only):
    plain, saving = build(), build()
    saving.gradient_checkpointing = True
    latents, c_noise, conditioning = inputs()
    conditioning = replace(conditioning, image_only=image_only)
    for network in (plain, saving):
        network(latents, c_noise, conditioning).square().mean().backward()
    expected = dict(plain.named_parameters())
    for name, parameter in saving.named_parameters():
        assert torch.equal(parameter.grad, expected[name].grad), name


def test_gradient_checkpointing_computes_every_block_again(monkeypatch):
    network = build()
    network.gradient_checkpointing = True
    calls = dict.fromkeys((unet_blocks.SpatialBlock, unet_blocks.TemporalBlock), 0)
    for block in calls:
        forward = block.forward

        def counted(self, *args, block=block, forward=forward):
            calls[block] += 1
            return forward(self, *args)

        monkeypatch.setattr(block, "forward", counted)
    latents, c_noise, conditioning = inputs()
    output = network(latents, c_noise, conditioning)
    once = dict(calls)
    output.square().mean().backward()
    assert calls == {block: 2 * count for block, count in once.items()}
    assert all(once.values())


def test_conditions_may_be_angles_per_frame():
    angles = (Condition(name="augmentation", width=8), Condition(name="azimuth", width=16, angle=True))
    config = replace(SMALL, conditions=angles)
    network = build(config).eval()
    latents, c_noise, conditioning = inputs(config)
    values = torch.zeros(2, 3, 2)
    values[..., 1] = torch.tensor([0.0, 1.0, 2.0])
    turned = values.clone()
    turned[..., 1] += 2 * torch.pi
    other = values.clone()
    other[:, 2, 1] = 0.5
    with torch.no_grad():
        outputs = [
            network(latents, c_noise, replace(conditioning, values=v)) for v in (values, turned, other)
        ]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=0, atol=1e-5)
    assert (outputs[0] - outputs[2]).abs().max() > 1e-4


def test_channels_beside_the_latents():
    config = replace(SMALL, in_channels=9)
    network = build(config).eval()
    latents, c_noise, conditioning = inputs(config)
    beside = replace(conditioning, channels=latents[:, 4:])
    with torch.no_grad():
        assert torch.equal(network(latents[:, :4], c_noise, beside), network(latents, c_noise, conditioning))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": torch.zeros(2, 1, 25)}, r"expected tokens \(2, ..., 24\), got \(2, 1, 25\)"),
        ({"tokens": torch.zeros(2, 5, 1, 24)}, "5 frames of tokens, 3 of latents"),
        ({"values": torch.zeros(2, 4)}, r"expected 3 values \(fps, motion, augmentation\), got 4"),
        ({"channels": torch.zeros(2, 4, 3, 8, 8)}, "expected 4 input channels, got 8"),
    ],
)
def test_wrong_inputs_are_named(change, message):
    latents, c_noise, conditioning = inputs()
    with pytest.raises(ValueError, match=message):
        build()(latents, c_noise, replace(conditioning, **change))


@pytest.mark.parametrize(
    "wrong", [{"channels": (32, 48)}, {"heads": (2,)}, {"layers": 0}, {"heads": (3, 4)}, {"channels": ()}]
)
def test_a_wrong_config_is_refused(wrong):
    with pytest.raises(ValueError, match=r"channels|layers"):
        replace(SMALL, **wrong)


def test_bfloat16_autocast_is_near_float32():
    network = build()
    latents, c_noise, conditioning = inputs()
    exact = network(latents, c_noise, conditioning)
    with torch.autocast("cpu", torch.bfloat16):
        rough = network(latents, c_noise, conditioning)
    rough.float().square().mean().backward()
    assert (rough.float() - exact).abs().max() <= 0.05 * exact.abs().max()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_a_config_builds_its_network():
    assert type(build_network(SMALL)) is VideoUNet
    assert type(build_network(STDiT2Config(depth=1, hidden=48, heads=2, caption_channels=8))) is STDiT2
