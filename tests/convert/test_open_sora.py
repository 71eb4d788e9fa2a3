from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kinema.checkpoint import check_fits
from kinema.convert.open_sora import OpenSoraConfig, convert_open_sora, export_open_sora
from kinema.convert.public_stdit2 import public_config, public_record
from kinema.denoiser import VideoShape, condition
from kinema.encoders.protocols import EncodedText
from kinema.errors import CheckpointError, OutputError
from kinema.model import load_model
from kinema.nn import STDiT2, STDiT2Config, build_network

FIXTURES = Path(__file__).parents[1] / "fixtures" / "opensora"
PUBLIC = {
    "model_type": "STDiT2",
    "depth": 2,
    "hidden_size": 24,
    "num_heads": 2,
    "patch_size": [1, 2, 2],
    "in_channels": 4,
    "mlp_ratio": 4.0,
    "caption_channels": 24,
    "model_max_length": 7,
    "input_sq_size": 512,
    "qk_norm": True,
    "pred_sigma": True,
    "class_dropout_prob": 0.1,
    "drop_path": 0.0,
    "enable_flash_attn": False,
    "transformers_version": "4.39.3",
}
XL2 = PUBLIC | {
    "depth": 28,
    "hidden_size": 1152,
    "num_heads": 16,
    "caption_channels": 4096,
    "model_max_length": 200,
}


def published(folder: Path, record: dict[str, Any] = PUBLIC) -> dict[str, Tensor]:
    """Random weights in the public layout, half of them in bf16."""
    torch.manual_seed(1)
    state = STDiT2(public_config(record, "here")).state_dict()
    tensors = {
        key: torch.randn_like(tensor).to(torch.bfloat16 if ".mlp." in key else torch.float32)
        for key, tensor in state.items()
    }
    write(folder, tensors, record)
    return tensors


def write(folder: Path, tensors: dict[str, Tensor], record: dict[str, Any] = PUBLIC) -> None:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(record, indent=1))


def test_the_full_network_has_the_published_keys() -> None:
    facts = json.loads((FIXTURES / "stdit2_xl2_keys.json").read_text())["qk_norm=True"]
    with torch.device("meta"):
        network = build_network(public_config(XL2, "XL/2"))
        tensors = {key: torch.empty(shape) for key, shape in facts["shapes"].items() if key != "_note"}
    check_fits(network, tensors, "XL/2")
    assert len(tensors) == facts["n_keys"] == 707
    assert sum(p.numel() for p in network.parameters()) == facts["n_parameters"]
    assert network.config == STDiT2Config.xl2()


def test_the_public_config_survives_the_way_there_and_back() -> None:
    record = public_record(public_config(XL2, "XL/2"))
    assert public_config(record, "again") == STDiT2Config.xl2()
    with pytest.raises(CheckpointError, match="rope_first = false"):
        public_record(STDiT2Config())


def test_the_round_trip_is_exact_to_the_byte(tmp_path: Path) -> None:
    published(tmp_path / "public")
    summary = convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig())
    assert summary["preset"] == "published"
    assert summary["changes"] == []
    export_open_sora(tmp_path / "model", tmp_path / "back")
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "public" / name).read_bytes(), name


def test_a_lora_beside_the_weights_is_not_left_behind(tmp_path: Path) -> None:
    published(tmp_path / "public")
    convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig())
    (tmp_path / "model" / "lora").mkdir()
    with pytest.raises(CheckpointError, match=r"holds a LoRA beside its weights.*kinema pack"):
        export_open_sora(tmp_path / "model", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_converted_model_computes_what_its_weights_say(tmp_path: Path, published_encoders: Path) -> None:
    tensors = published(tmp_path / "public")
    config = OpenSoraConfig(
        text_encoder=str(published_encoders / "t5"), vae=str(published_encoders / "vae"), embed=True
    )
    convert_open_sora(tmp_path / "public", tmp_path / "model", config)
    (tmp_path / "model").rename(tmp_path / "moved")
    model = load_model(tmp_path / "moved")
    assert model.preset == "published"
    assert model.network.config.rope_first
    for key, tensor in tensors.items():
        assert torch.equal(model.network.state_dict()[key], tensor.float()), key
    words = model.text_encoder.encode(["a red square", ""])
    assert words.mask.sum(1).tolist() == [4, 1]
    latents = model.autoencoder.encode(torch.zeros(1, 3, 2, 16, 24))
    out = model.network(
        latents.repeat(2, 1, 1, 1, 1),
        torch.tensor([5.0, 900.0]),
        condition(words, VideoShape(height=16, width=24, frames=2, fps=8.0)),
    )
    assert out.shape == (2, 8, 2, 2, 3)
    assert torch.isfinite(out).all()


def test_encoders_are_named_without_being_loaded(tmp_path: Path) -> None:
    published(tmp_path / "public")
    convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig(vae="someone/some-vae"))
    record = tomllib.loads((tmp_path / "model" / "model.toml").read_text())
    assert record["autoencoder"]["source"] == "someone/some-vae"
    text = {"kind": "t5", "revision": "main", "max_tokens": 7}
    assert record["text_encoder"] | text == record["text_encoder"]
    model = load_model(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"someone/some-vae cannot be loaded: .*fetch it first"):
        model.autoencoder.encode(torch.zeros(1, 3, 1, 16, 16))


@pytest.mark.parametrize(("rows", "expected"), [(5, [0, 1, 2, 3, 4, 4, 4]), (9, [0, 1, 2, 3, 4, 5, 6])])
def test_the_null_caption_is_extended_or_cut(tmp_path: Path, rows: int, expected: list[int]) -> None:
    tensors = published(tmp_path / "public")
    null = torch.randn(rows, 24)
    legacy = {"pos_embed": torch.zeros(1, 4, 24), "pos_embed_temporal": torch.zeros(1, 4, 24)}
    write(tmp_path / "public", tensors | legacy | {"y_embedder.y_embedding": null})
    summary = convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig())
    assert summary["changes"][:2] == ["left out pos_embed", "left out pos_embed_temporal"]
    assert torch.equal(load_model(tmp_path / "model").network.null_tokens(7), null[expected])


def test_a_layout_that_does_not_fit_is_named(tmp_path: Path) -> None:
    tensors = published(tmp_path / "public")
    key = "blocks.1.attn_temp.qkv.weight"

    def refused(changed: dict[str, Tensor], words: str, record: dict[str, Any] = PUBLIC) -> None:
        write(tmp_path / "public", changed, record)
        with pytest.raises(CheckpointError, match=words):
            convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig())

    refused(tensors | {key: torch.zeros(72, 12)}, rf"{key} has shape \[72, 12\], .* expects \[72, 24\]")
    refused({k: v for k, v in tensors.items() if k != key}, f"lacks {key}")
    refused(tensors | {"blocks.9.odd": torch.zeros(1)}, r"holds blocks\.9\.odd")
    refused({"unet.weight": torch.zeros(1)}, "neither ST-DiT-2 nor PixArt")
    refused(tensors, "hidden must be a multiple of 12", PUBLIC | {"hidden_size": 25})
    (tmp_path / "public" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig())


def test_pickles_and_wrong_places_are_refused(tmp_path: Path) -> None:
    published(tmp_path / "public")
    for path, words in (("PixArt.pth", "may be a pickle"), ("nowhere", "does not exist")):
        with pytest.raises(CheckpointError, match=words):
            convert_open_sora(tmp_path / path, tmp_path / "model", OpenSoraConfig())
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "notes").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        convert_open_sora(tmp_path / "public", tmp_path / "model", OpenSoraConfig())


def test_an_encoder_of_another_size_is_refused(tmp_path: Path, published_encoders: Path) -> None:
    published(tmp_path / "public", PUBLIC | {"caption_channels": 32})
    config = OpenSoraConfig(text_encoder=str(published_encoders / "t5"))
    with pytest.raises(CheckpointError, match="tokens 24 wide, the network takes 32"):
        convert_open_sora(tmp_path / "public", tmp_path / "model", config)


def image_network(folder: Path) -> dict[str, Tensor]:
    """PixArt's names and shapes with random weights, as a 2-D image network has them."""
    torch.manual_seed(3)
    config = replace(public_config(PUBLIC, "here"), qk_norm=False)
    keys = {
        key: tensor
        for key, tensor in STDiT2(config).state_dict().items()
        if "temp" not in key and not key.startswith(("rope", "fl_", "fps_"))
    }
    tensors = {key: 0.1 * torch.randn_like(tensor) for key, tensor in keys.items()}
    tensors["x_embedder.proj.weight"] = tensors["x_embedder.proj.weight"][:, :, 0].contiguous()
    tensors["y_embedder.y_embedding"] = torch.randn(5, 24)
    write(folder, tensors | {"pos_embed": torch.zeros(1, 4, 24)}, {"num_heads": 2})
    return tensors


def test_a_network_grown_from_images_passes_each_frame_alone(tmp_path: Path) -> None:
    image_network(tmp_path / "pixart")
    summary = convert_open_sora(tmp_path / "pixart", tmp_path / "model", OpenSoraConfig(max_tokens=7))
    assert (summary["layout"], summary["preset"]) == ("PixArt", "kinema")
    network = load_model(tmp_path / "model").network
    assert network.config.depth == 2
    assert network.x_embedder.proj.weight.shape == (24, 4, 1, 2, 2)
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 4, 3, 6, 8, generator=generator)
    text = EncodedText(torch.randn(1, 7, 24, generator=generator), torch.ones(1, 7, dtype=torch.bool))

    def run(video: Tensor, frames: int) -> Tensor:
        told = condition(text, VideoShape(height=48, width=64, frames=frames, fps=8.0))
        out: Tensor = network(video, torch.tensor([300.0]), told)
        return out

    together = run(latents, 3)
    alone = torch.cat([run(latents[:, :, i : i + 1], 1) for i in range(3)], dim=2)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    assert together.std() > 0


def test_an_image_network_not_told_its_size_gets_a_silent_embedding(tmp_path: Path) -> None:
    tensors = image_network(tmp_path / "pixart")
    write(
        tmp_path / "pixart",
        {key: tensor for key, tensor in tensors.items() if not key.startswith(("csize", "ar_"))},
        {"num_heads": 2},
    )
    convert_open_sora(tmp_path / "pixart", tmp_path / "model", OpenSoraConfig(max_tokens=7))
    state = load_file(tmp_path / "model" / "network" / "model.safetensors")
    assert not state["csize_embedder.mlp.2.weight"].any()
    assert not state["ar_embedder.mlp.2.bias"].any()
    del tensors["blocks.1.attn.proj.bias"]
    write(tmp_path / "pixart", tensors, {"num_heads": 2})
    with pytest.raises(CheckpointError, match=r"lacks blocks\.1\.attn\.proj\.bias"):
        convert_open_sora(tmp_path / "pixart", tmp_path / "other", OpenSoraConfig())
