"""The model that comes with kinema: there, small, used by default, and right about colour."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from kinema.cli import main
from kinema.location import embedded_model
from kinema.model import load_model, pack_model, save_model
from kinema.nn import build_network
from kinema.world.draw import WorldConfig
from kinema.world.exam import ExamConfig, drawn, from_text, share


def test_it_is_whole_and_small():
    size = sum(path.stat().st_size for path in embedded_model().rglob("*") if path.is_file())
    assert size <= 12_000_000
    model = load_model(embedded_model())
    assert (model.sampling.frames, model.sampling.height) == (16, 64)
    assert model.text_encoder.unknown_words("a huge crimson ball drifts leftwards rapidly") == []
    assert model.text_encoder.unknown_words("a red giraffe") == ["giraffe"]


def test_generate_uses_it_and_names_unknown_words(tmp_path, capsys, caplog):
    out = tmp_path / "star.png"
    command = ["generate", "--prompt", "a red giraffe", "--out", str(out), "--frames", "1", "--steps", "2"]
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["unknown_words"] == ["giraffe"]
    assert "giraffe" in caplog.text
    assert out.is_file()


def test_packing_keeps_what_is_generated(tmp_path):
    pack_model(embedded_model(), tmp_path / "again")
    first, second = load_model(embedded_model()), load_model(tmp_path / "again")
    assert first.text_encoder.config == second.text_encoder.config
    for one, other in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert np.array_equal(one.numpy(), other.numpy())


def test_packing_with_a_grain_changes_little_and_compresses(tmp_path):
    torch.manual_seed(0)
    model = load_model(embedded_model())
    wild = replace(model, network=build_network(model.network.config))
    save_model(tmp_path / "wild", wild)
    sizes = []
    for name, grain in (("fine", None), ("coarse", 10)):
        pack_model(tmp_path / "wild", tmp_path / name, grain=grain)
        content = (tmp_path / name / "network" / "model.safetensors").read_bytes()
        sizes.append(len(zlib.compress(content)))
    assert sizes[1] < 0.7 * sizes[0]
    fine, coarse = (load_model(tmp_path / name).network for name in ("fine", "coarse"))
    for one, other in zip(fine.parameters(), coarse.parameters(), strict=True):
        spread = one.std() if one.ndim > 1 else 0
        assert (one - other).abs().max() <= spread / 20 + 1e-6


@pytest.mark.slow
def test_it_gives_the_colour_that_is_asked_for():
    config = WorldConfig(objects=(1, 0, 0), camera_share=0, frames=8)
    papers = from_text(load_model(embedded_model()), drawn(config, 8, seed=31), ExamConfig(steps=10))
    assert share(papers, "colour") >= 0.75
