from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinema.checkpoint import read_json, write_json
from kinema.encoders.embedded import PatchPCAConfig, WordTextConfig, WordTextEncoder, fit_patch_pca
from kinema.encoders.folder import load_autoencoder, load_text_encoder, save_autoencoder, save_text_encoder
from kinema.errors import CheckpointError


def test_autoencoder_round_trip(tmp_path: Path) -> None:
    video = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=4, components=5, whitening=0.5), [video])
    save_autoencoder(tmp_path, autoencoder)
    assert torch.equal(load_autoencoder(tmp_path).encode(video), autoencoder.encode(video))


def test_text_encoder_round_trip(tmp_path: Path) -> None:
    encoder = WordTextEncoder(WordTextConfig(width=8, heads=2, max_tokens=6), ["red", "étoile"])
    save_text_encoder(tmp_path, encoder)
    loaded = load_text_encoder(tmp_path)
    assert torch.equal(loaded.encode(["red étoile"]).tokens, encoder.encode(["red étoile"]).tokens)
    assert loaded.unknown_words("red étoile moon") == ["moon"]


def test_an_unknown_kind_is_named(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"kind": "t6"})
    with pytest.raises(CheckpointError, match=r"unknown text encoder kind 't6'"):
        load_text_encoder(tmp_path)


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    save_text_encoder(tmp_path, WordTextEncoder(WordTextConfig(), ["red"]))
    write_json(tmp_path / "config.json", read_json(tmp_path / "config.json") | {"widht": 3})
    with pytest.raises(CheckpointError, match="unknown key 'widht'"):
        load_text_encoder(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere.*config\.json"):
        load_autoencoder(tmp_path / "nowhere")
