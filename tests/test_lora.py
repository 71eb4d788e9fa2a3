"""LoRA files: both layouts there and back, read by PEFT and diffusers, older spellings, what is refused."""

from __future__ import annotations

import json

import peft
import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from diffusers.loaders import PeftAdapterMixin
from diffusers.loaders.lora_pipeline import StableDiffusionLoraLoaderMixin
from safetensors.torch import load_file, save_file

from kinema.convert.svd import save_video_unet
from kinema.errors import CheckpointError
from kinema.lora import read_lora, write_lora
from kinema.nn import Conditioning, STDiT2, STDiT2Config, VideoConditioning, VideoUNet, VideoUNetConfig
from kinema.nn.lora import LoRAConfig, attach, new_lora

SMALL = VideoUNetConfig(
    channels=(32, 64),
    layers=1,
    heads=(2, 4),
    attention=(True, False),
    context_width=24,
    in_channels=4,
    group_norm_eps="diffusers",
)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


LATENTS = torch.randn(1, 4, 3, 8, 8, generator=seeded(1))
TOKENS = torch.randn(1, 2, 24, generator=seeded(2))
VALUES = torch.tensor([[6.0, 127.0, 0.02]])


@pytest.fixture
def network():
    torch.manual_seed(0)
    return VideoUNet(SMALL).eval().requires_grad_(False)


def trained(network, **settings):
    lora = new_lora(network, LoRAConfig(**({"rank": 4} | settings)))
    with torch.no_grad():
        for index, parameter in enumerate(lora.parameters()):
            parameter.copy_(torch.randn(parameter.shape, generator=seeded(index)) * 0.2)
    return lora


def ours(network, lora):
    attach(network, [(lora, 1.0)] if lora else [])
    with torch.no_grad():
        return network(LATENTS, torch.tensor([0.3]), VideoConditioning(tokens=TOKENS, values=VALUES))


def theirs(network):
    """The same inputs in diffusers' layout."""
    with torch.no_grad():
        output = network(LATENTS.transpose(1, 2), torch.tensor(0.3), TOKENS, VALUES)
    return output.sample.transpose(1, 2)


@pytest.mark.parametrize("settings", [{}, {"alpha": 2.0, "target": "linear"}])
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "pytorch_lora_weights.safetensors"])
def test_both_layouts_come_back(network, tmp_path, name, settings):
    lora = trained(network, **settings)
    write_lora(tmp_path / "run/lora", lora, part="unet")
    read = read_lora(tmp_path / "run/lora" / name, network)
    assert read.additions.keys() == lora.additions.keys()
    for layer in lora.additions:
        torch.testing.assert_close(read.delta(layer), lora.delta(layer), rtol=1e-6, atol=1e-8)
    for folder in (tmp_path / "run", tmp_path / "run/lora"):  # the folder of a run means its LoRA
        assert torch.equal(read_lora(folder, network).delta(layer), lora.delta(layer))


def test_peft_computes_the_same_with_it(network, tmp_path):
    lora = trained(network, alpha=2.0)
    write_lora(tmp_path / "lora", lora, part="unet", base="a/base")
    save_video_unet(network, tmp_path / "unet")
    other = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "unet")
    other = peft.PeftModel.from_pretrained(other, str(tmp_path / "lora"))
    expected = ours(network, lora)
    torch.testing.assert_close(theirs(other.base_model.model), expected, rtol=0, atol=5e-5)
    assert (expected - ours(network, None)).abs().max() > 1e-2


def test_diffusers_computes_the_same_with_it(network, tmp_path):
    class Adaptable(UNetSpatioTemporalConditionModel, PeftAdapterMixin):
        """diffusers' own loading of LoRA, which this class of theirs does not have by itself."""

    lora = trained(network, alpha=2.0)
    write_lora(tmp_path / "lora", lora, part="unet")
    save_video_unet(network, tmp_path / "unet")
    other = Adaptable.from_pretrained(tmp_path / "unet")
    state, alphas = StableDiffusionLoraLoaderMixin.lora_state_dict(
        str(tmp_path / "lora"), weight_name="pytorch_lora_weights.safetensors"
    )
    other.load_lora_adapter(state, network_alphas=alphas, prefix="unet")
    torch.testing.assert_close(theirs(other), ours(network, lora), rtol=0, atol=5e-5)


def test_what_peft_writes_is_read(network, tmp_path):
    """Ranks and alphas by layer included."""
    save_video_unet(network, tmp_path / "unet")
    other = UNetSpatioTemporalConditionModel.from_pretrained(tmp_path / "unet")
    config = peft.LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=r".*temporal_transformer_blocks.*attn1\.to_(q|v)",
        rank_pattern={"mid_block.*to_q": 2},
        alpha_pattern={"mid_block.*to_q": 3},
        init_lora_weights=False,
    )
    torch.manual_seed(1)
    model = peft.get_peft_model(other, config)
    model.save_pretrained(tmp_path / "lora")
    read = read_lora(tmp_path / "lora", network)
    assert {shape.rank for shape in read.additions.values()} == {2, 4}
    torch.testing.assert_close(ours(network, read), theirs(model.base_model.model), rtol=0, atol=5e-5)


def test_the_transformer_goes_through_peft_too(tmp_path):
    config = STDiT2Config(depth=2, hidden=48, heads=4, caption_channels=16, max_tokens=6, input_sq_size=64)
    torch.manual_seed(0)
    network = STDiT2(config).eval().requires_grad_(False)
    torch.nn.init.normal_(network.final_layer.linear.weight)
    lora = trained(network, target="attention")
    write_lora(tmp_path, lora, part="transformer")
    facts = {"height": 64.0, "width": 96.0, "aspect_ratio": 0.67, "frames": 4.0, "fps": 8.0}
    conditioning = Conditioning(
        tokens=torch.randn(1, 6, 16, generator=seeded(1)),
        **{name: torch.full((1,), value) for name, value in facts.items()},
    )
    inputs = torch.randn(1, 4, 4, 6, 8, generator=seeded(3)), torch.tensor([500]), conditioning
    plain = network(*inputs)
    attach(network, [(lora, 1.0)])
    expected = network(*inputs)
    attach(network, [])
    other = peft.PeftModel.from_pretrained(network, str(tmp_path)).base_model.model
    torch.testing.assert_close(other(*inputs), expected, rtol=0, atol=5e-5)
    assert (expected - plain).abs().max() > 1e-3


def test_older_spellings_are_read(network, tmp_path):
    lora = trained(network, alpha=2.0)
    layers = [name for name in lora.additions if ".attn1." in name]
    old, older = {}, {}
    for name in layers:
        down, up = lora.layer(name).lora_A.weight, lora.layer(name).lora_B.weight
        old |= {
            f"unet.{name}.lora.down.weight": down,
            f"unet.{name}.lora.up.weight": up,
            f"unet.{name}.alpha": torch.tensor(2.0),
        }
        before, _, last = name.removesuffix(".0").rpartition(".")
        older |= {
            f"unet.{before}.processor.{last}_lora.down.weight": down,
            f"unet.{before}.processor.{last}_lora.up.weight": up * 0.5,
        }
    for tensors in (old, older):
        save_file(
            {key: value.detach().contiguous() for key, value in tensors.items()}, tmp_path / "old.safetensors"
        )
        read = read_lora(tmp_path / "old.safetensors", network)
        assert set(read.additions) == set(layers)
        for name in layers:
            torch.testing.assert_close(read.delta(name), lora.delta(name))


def test_what_cannot_be_used_is_named(network, tmp_path):
    lora = trained(network)
    write_lora(tmp_path, lora, part="unet")
    other = VideoUNet(VideoUNetConfig(**(SMALL.__dict__ | {"channels": (64, 64)})))
    with pytest.raises(CheckpointError, match=r"attn1\.to_k.*\[32, 32\].*\[64, 64\]"):
        read_lora(tmp_path, other)
    with pytest.raises(CheckpointError, match="holds no LoRA; expected adapter_config"):
        read_lora(tmp_path / "nowhere", network)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    key = next(iter(tensors))

    def refused(changed, message):
        save_file(changed, tmp_path / "changed.safetensors")
        with pytest.raises(CheckpointError, match=message):
            read_lora(tmp_path / "changed.safetensors", network)

    refused({name: value for name, value in tensors.items() if name != key}, "lacks")
    refused(tensors | {"unet.extra": torch.zeros(1)}, "holds unet.extra")
    refused(tensors | {key: torch.zeros(4, 32, 3, 3)}, r"\[4, 32, 3, 3\].*2 axes")
    refused(tensors | {key: torch.zeros(5, tensors[key].shape[1])}, "two ranks")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | {"use_dora": True}))
    with pytest.raises(CheckpointError, match="use_dora is True; only plain LoRA"):
        read_lora(tmp_path, network)
