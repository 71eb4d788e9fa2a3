from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kinema.checkpoint import write_json, write_tensors
from kinema.cli import main
from kinema.convert.public_stdit2 import public_record
from kinema.nn import STDiT2, STDiT2Config


@pytest.fixture
def public(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    flags = {"rope_first": True, "final_layer_published": True, "shared_position_scale": True}
    config = STDiT2Config(depth=1, hidden=24, heads=2, caption_channels=24, max_tokens=6, **flags)
    write_tensors(tmp_path / "public" / "model.safetensors", STDiT2(config).state_dict(), {"format": "pt"})
    write_json(tmp_path / "public" / "config.json", public_record(config))
    return tmp_path / "public"


def test_there_and_back(public: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, back = str(tmp_path / "model"), str(tmp_path / "back")
    assert main(["convert", "open-sora", str(public), "--out", model, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["layout"] == "OpenSora-STDiT-v2"
    assert main(["convert", "--to", "open-sora", model, "--out", back]) == 0
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (public / name).read_bytes()


def test_a_sample_from_a_converted_model(
    public: Path, tmp_path: Path, published_encoders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole way, with the real classes of every encoder."""
    model = tmp_path / "model"
    encoders = ["--text-encoder", str(published_encoders / "t5"), "--vae", str(published_encoders / "vae")]
    assert main(["convert", "open-sora", str(public), "--out", str(model), *encoders]) == 0
    size = ["--height", "32", "--width", "48", "--frames", "3", "--steps", "2"]
    words = ["generate", "--model", str(model), "--prompt", "a red square", "--out", str(tmp_path / "a.mp4")]
    assert main([*words, *size, "--json"]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (record["frames"], record["fps"], record["guidance_scale"]) == (3, 8.0, 7.0)
    assert (tmp_path / "a.mp4").stat().st_size > 0


def test_a_refusal_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "open-sora", str(tmp_path / "no"), "--out", str(tmp_path / "model")]) == 2
    assert "does not exist; name a folder with model.safetensors" in capsys.readouterr().err
