from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from kinema.diffusion.iddpm import IDDPMConfig
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.encoders.embedded import PatchPCA, PatchPCAConfig, WordTextConfig, WordTextEncoder
from kinema.errors import CheckpointError
from kinema.lora import write_lora
from kinema.model import Model, SamplingDefaults, TrainedOn, load_model, model_hash, pack_model, save_model
from kinema.nn import STDiT2, STDiT2Config
from kinema.nn.lora import LoRAConfig, new_lora


def make_model() -> Model:
    torch.manual_seed(0)
    return Model(
        network=STDiT2(
            STDiT2Config(depth=1, hidden=24, heads=2, in_channels=6, caption_channels=8, max_tokens=5)
        ),
        process=IDDPMConfig(prediction="clean", max_loss_weight=5.0),
        autoencoder=PatchPCA(PatchPCAConfig(components=6)),
        text_encoder=WordTextEncoder(WordTextConfig(width=8, heads=2, max_tokens=5), ["red"]),
        sampling=SamplingDefaults(height=32, width=48, frames=4, fps=6.0, steps=3, guidance_scale=2.0),
        trained_on=TrainedOn(dataset="squares 1", clips=2, steps=6, samples=24, buckets=("32px 4f",)),
    )


def test_round_trip(tmp_path: Path) -> None:
    model = make_model()
    save_model(tmp_path, model)
    loaded = load_model(tmp_path)
    assert (loaded.process, loaded.sampling, loaded.trained_on) == (
        model.process,
        model.sampling,
        model.trained_on,
    )
    for key, tensor in model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[key], tensor), key


def test_averaged_weights_are_preferred(tmp_path: Path) -> None:
    model = make_model()
    average = {key: tensor + 1 for key, tensor in model.network.state_dict().items()}
    save_model(tmp_path, model, {"network": average})
    key = "t_block.1.weight"
    assert torch.equal(load_model(tmp_path).network.state_dict()[key], average[key])
    raw = load_model(tmp_path, ema=False).network.state_dict()[key]
    assert torch.equal(raw, model.network.state_dict()[key])


@pytest.mark.parametrize("grain", [None, 8])
def test_a_lora_beside_the_weights_is_part_of_the_model(tmp_path: Path, grain: int | None) -> None:
    model = make_model()
    save_model(tmp_path / "base", model)
    lora = new_lora(model.network, LoRAConfig(rank=2, target="linear"))
    with torch.no_grad():
        for parameter in lora.parameters():
            parameter.normal_()
    write_lora(tmp_path / "run" / "lora", lora, part="transformer")
    pack_model(tmp_path / "base", tmp_path / "plain", grain=grain)
    pack_model(tmp_path / "base", tmp_path / "laid", grain=grain, lora=tmp_path / "run")
    weights = Path("network") / "model.safetensors"
    assert (tmp_path / "laid" / weights).read_bytes() == (tmp_path / "plain" / weights).read_bytes()
    assert model_hash(tmp_path / "laid") != model_hash(tmp_path / "plain")
    name = "blocks.0.mlp.fc1"
    plain, laid = (load_model(tmp_path / part).network.get_submodule(name) for part in ("plain", "laid"))
    apart = laid.weight - plain.weight - lora.delta(name)
    assert apart.abs().max() < (0.01 if grain is None else 1.0)
    assert apart.square().mean() < 0.05 * lora.delta(name).square().mean()


def test_the_hash_follows_the_weights(tmp_path: Path) -> None:
    model = make_model()
    save_model(tmp_path / "a", model)
    save_model(tmp_path / "b", model)
    assert model_hash(tmp_path / "a") == model_hash(tmp_path / "b")
    with torch.no_grad():
        model.network.t_block[1].bias += 1e-3
    save_model(tmp_path / "b", model)
    assert model_hash(tmp_path / "a") != model_hash(tmp_path / "b")


def test_a_changed_shape_is_named(tmp_path: Path) -> None:
    save_model(tmp_path, make_model())
    config = tmp_path / "network" / "config.json"
    config.write_text(config.read_text().replace('"hidden": 24', '"hidden": 48'))
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* has shape \[.*expects \["):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('kind = "iddpm"', 'kind = "edm9"', "unknown process kind 'edm9'"),
        ("beta_start", "beta_begin", "unknown key 'beta_begin'"),
        ("height = 32", 'height = "tall"', "height"),
        ("[sampling]", "[sampler]", "lacks 'sampling'"),
        ("kinema", "= kinema", "cannot be read"),
    ],
)
def test_a_spoilt_description_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    save_model(tmp_path, make_model())
    text = (tmp_path / "model.toml").read_text()
    (tmp_path / "model.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=words):
        load_model(tmp_path)


def test_a_missing_weight_file_is_named(tmp_path: Path) -> None:
    save_model(tmp_path, make_model())
    (tmp_path / "vae" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"vae.*model\.safetensors"):
        load_model(tmp_path)


def test_a_flow_comes_back_as_a_flow(tmp_path: Path) -> None:
    model = replace(make_model(), process=RectifiedFlowConfig(base_values=64))
    save_model(tmp_path, model)
    assert load_model(tmp_path).process == model.process
