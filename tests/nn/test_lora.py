"""Low-rank additions: how many, no change at first, mixing, merging, what trains, what is refused."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from kinema.nn import Conditioning, STDiT2, STDiT2Config, VideoConditioning, VideoUNet, VideoUNetConfig
from kinema.nn.lora import LoRAConfig, attach, chosen_layers, detach, merge, new_lora, unmerge

UNET = VideoUNetConfig(
    channels=(32, 64), layers=1, heads=(2, 4), attention=(True, False), context_width=24, in_channels=4
)
DIT = STDiT2Config(depth=2, hidden=48, heads=4, caption_channels=16, max_tokens=6, input_sq_size=64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def moved(network):
    """Zero-initialised parts would hide what happens before them."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.requires_grad and not parameter.any():
                parameter.add_(torch.randn(parameter.shape, generator=seeded(len(name))) * 0.1)
    return network.eval()


def unet():
    torch.manual_seed(0)
    network = moved(VideoUNet(UNET))
    conditioning = VideoConditioning(
        tokens=torch.randn(2, 2, 24, generator=seeded(1)), values=torch.rand(2, 3, generator=seeded(2)) * 100
    )
    latents = torch.randn(2, 4, 3, 8, 8, generator=seeded(3))
    return network, (latents, torch.tensor([-1.0, 1.0]), conditioning)


def dit():
    torch.manual_seed(0)
    network = moved(STDiT2(DIT))
    facts = {"height": 64.0, "width": 96.0, "aspect_ratio": 0.67, "frames": 4.0, "fps": 8.0}
    conditioning = Conditioning(
        tokens=torch.randn(2, 6, 16, generator=seeded(1)),
        **{name: torch.full((2,), value) for name, value in facts.items()},
    )
    return network, (torch.randn(2, 4, 4, 6, 8, generator=seeded(3)), torch.tensor([500, 20]), conditioning)


def trained(network, seed=5, **settings):
    """A LoRA that has learned something."""
    lora = new_lora(network, LoRAConfig(**({"rank": 4} | settings)))
    with torch.no_grad():
        for index, parameter in enumerate(lora.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(seed + index)) * 0.1)
    return lora


BOTH = pytest.mark.parametrize("build", [unet, dit])


def test_temporal_attention_of_the_full_size_network_is_the_published_count():
    with torch.device("meta"):
        network = VideoUNet(VideoUNetConfig.svd())
        lora = new_lora(network, LoRAConfig())
    assert sum(parameter.numel() for parameter in lora.parameters()) == 3_319_808
    assert len(lora.additions) == 128
    assert all("temporal_transformer_blocks" in name for name in lora.additions)


def test_temporal_attention_of_the_transformer_is_its_attention_along_time():
    with torch.device("meta"):
        chosen = chosen_layers(STDiT2(STDiT2Config.xl2()), LoRAConfig())
    assert len(chosen) == 2 * 28
    assert {name.split(".", 2)[2] for name in chosen} == {"attn_temp.qkv", "attn_temp.proj"}


@BOTH
@pytest.mark.parametrize("target", ["temporal-attention", "attention", "linear"])
@torch.no_grad()
def test_a_new_one_changes_nothing(build, target):
    network, inputs = build()
    before = network(*inputs)
    attach(network, [(new_lora(network, LoRAConfig(target=target)), 1.0)])
    torch.testing.assert_close(network(*inputs), before, rtol=0, atol=2e-5)


@BOTH
@torch.no_grad()
def test_the_network_keeps_its_keys_and_parameters(build):
    network, inputs = build()
    before, keys = network(*inputs), list(network.state_dict())
    kinds = [type(part) for part in network.modules()]
    lora = trained(network)
    attach(network, [(lora, 1.0)])
    assert list(network.state_dict()) == keys
    assert not set(lora.parameters()) & set(network.parameters())
    assert (network(*inputs) - before).abs().max() > 1e-3
    detach(network)
    assert torch.equal(network(*inputs), before)
    assert [type(part) for part in network.modules()] == kinds


@BOTH
@torch.no_grad()
def test_merged_is_attached_and_unmerging_gives_every_bit_back(build):
    network, inputs = build()
    loras = [(trained(network, alpha=8.0), 0.7), (trained(network, 50, rank=2, target="linear"), -0.4)]
    weights = copy.deepcopy(network.state_dict())
    attach(network, loras)
    attached = network(*inputs)
    detach(network)
    before = merge(network, loras)
    torch.testing.assert_close(network(*inputs), attached, rtol=1e-4, atol=1e-4)
    unmerge(network, before)
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())


@torch.no_grad()
def test_mixing_is_the_sum_of_what_each_adds_to_the_weights():
    network, _ = unet()
    one, other = trained(network, alpha=2.0), trained(network, 50)
    name = next(iter(one.additions))
    layer, tokens = network.get_submodule(name), torch.randn(3, 32, generator=seeded(1))
    plain = layer(tokens)
    attach(network, [(one, 1.0), (other, 0.25)])
    weight = one.delta(name) + 0.25 * other.delta(name)
    torch.testing.assert_close(layer(tokens) - plain, tokens @ weight.T, rtol=1e-4, atol=1e-5)
    attach(network, [(other, 1.0)])  # in place of the others, not on top of them
    torch.testing.assert_close(layer(tokens) - plain, tokens @ other.delta(name).T, rtol=1e-4, atol=1e-5)


@BOTH
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_reach_the_additions_alone(build, checkpointing):
    network, inputs = build()
    network.requires_grad_(False).train()
    for part in network.modules():
        for name in ("checkpointing", "gradient_checkpointing"):
            if hasattr(part, name):
                setattr(part, name, checkpointing)
    lora = trained(network)
    attach(network, [(lora, 1.0)])
    network(*inputs).square().mean().backward()
    grads = {name: parameter.grad for name, parameter in lora.named_parameters()}
    assert all(grad is not None and grad.any() for grad in grads.values())
    assert all(parameter.grad is None for parameter in network.parameters())


@torch.no_grad()
def test_half_precision_networks_keep_their_precision():
    network, _ = unet()
    lora = trained(network)
    network.bfloat16()
    attach(network, [(lora, 1.0)])
    layer = network.get_submodule(next(iter(lora.additions)))
    assert layer(torch.ones(1, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_what_does_not_fit_is_named_with_both_shapes():
    network, _ = unet()
    wider = VideoUNet(
        VideoUNetConfig(
            channels=(64, 64),
            layers=1,
            heads=(2, 4),
            attention=(True, False),
            context_width=24,
            in_channels=4,
        )
    )
    with pytest.raises(ValueError, match=r"down_blocks.0.attentions.0.*\[64, 64\].*\[32, 32\]"):
        attach(network, [(trained(wider), 1.0)])
    with pytest.raises(ValueError, match=r"blocks\.0\.attn_temp\.qkv, which is no linear layer"):
        attach(network, [(trained(STDiT2(DIT)), 1.0)])
    with pytest.raises(ValueError, match="no linear layer of this network is called 'nothing'"):
        new_lora(network, LoRAConfig(pattern="nothing"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rank": 0}, "rank"), ({"alpha": 0.0}, "alpha"), ({"pattern": "("}, "regular expression")],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        LoRAConfig(**settings)


def test_images_pass_temporal_additions_by_with_gradient_zero():
    """A step of images alone must have something to go backwards through."""
    network, (latents, c_noise, conditioning) = unet()
    network.requires_grad_(False)
    lora = trained(network)
    attach(network, [(lora, 1.0)])
    images = replace(conditioning, image_only=torch.ones(2, dtype=torch.bool))
    network(latents, c_noise, images).square().mean().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in lora.parameters())
