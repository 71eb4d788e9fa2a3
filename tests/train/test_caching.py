from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kinema.dataset.latents import latents_folder
from kinema.dataset.packs import read_count
from kinema.encoders.autoencoder_kl import FrameAutoencoder, FrameAutoencoderConfig
from kinema.encoders.embedded import PatchPCA
from kinema.encoders.text import T5Config, T5TextEncoder
from kinema.errors import ConfigError
from kinema.train.config import CacheConfig, TrainConfig
from kinema.train.loop import train
from kinema.video.reader import decode_count

from .test_loop import assert_same, remembered


@pytest.fixture
def published(small_run: TrainConfig, published_encoders: Path, tmp_path: Path) -> TrainConfig:
    """A run whose encoders are published ones, with one window a clip, so that all of it can be kept."""
    return replace(
        small_run,
        autoencoder=FrameAutoencoderConfig(source=str(published_encoders / "vae")),
        text_encoder=T5Config(source=str(published_encoders / "t5"), width=24, max_tokens=12),
        data=replace(small_run.data, windows=1, cache_mb=0),
        steps=8,
    )


def kept(config: TrainConfig, folder: Path, **values: Any) -> TrainConfig:
    return replace(config, cache=CacheConfig(latents=True, text=True, folder=folder, **values))


class Calls:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.count, plain = 0, getattr(owner, name)

        def counted(this: object, *args: object) -> object:
            self.count += 1
            return plain(this, *args)

        monkeypatch.setattr(owner, name, counted)


def test_training_from_the_cache_is_training_without_it(
    published: TrainConfig, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last bit: online, while the cache fills up, and from the cache, where nothing is decoded or
    encoded."""
    train(published, squares, tmp_path / "online")
    train(kept(published, tmp_path), squares, tmp_path / "filling")
    decoded = decode_count.opened
    encoded = Calls(monkeypatch, FrameAutoencoder, "_moments")
    embedded = Calls(monkeypatch, T5TextEncoder, "encode")
    read = read_count.tensors
    train(kept(published, tmp_path), squares, tmp_path / "cached")
    assert (decode_count.opened - decoded, encoded.count, embedded.count) == (0, 0, 0)
    assert read_count.tensors - read == 8 * 4 * 2
    online = remembered(tmp_path / "online")
    assert_same(online, remembered(tmp_path / "filling"))
    assert_same(online, remembered(tmp_path / "cached"))


def test_latents_of_another_encoder_are_never_read(
    published: TrainConfig, squares: Path, tmp_path: Path, published_encoders: Path
) -> None:
    train(kept(published, tmp_path), squares, tmp_path / "first")
    other = tmp_path / "vae"
    vae = FrameAutoencoder(FrameAutoencoderConfig(source=str(published_encoders / "vae")))
    with torch.no_grad():
        next(vae.part.parameters()).add_(0.1)
    vae.part.save_pretrained(other)
    changed = replace(published, autoencoder=FrameAutoencoderConfig(source=str(other)))
    train(changed, squares, tmp_path / "online")
    train(kept(changed, tmp_path), squares, tmp_path / "kept")
    assert_same(remembered(tmp_path / "online"), remembered(tmp_path / "kept"))
    assert len(list((tmp_path / "latents").iterdir())) == 2


def test_an_encoder_that_is_fitted_to_the_dataset_is_the_same_in_the_next_run(
    small_run: TrainConfig, squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(
        small_run,
        data=replace(small_run.data, windows=2),
        cache=CacheConfig(latents=True, folder=tmp_path),
        steps=30,
    )
    train(config, squares, tmp_path / "first")
    encoded = Calls(monkeypatch, PatchPCA, "encode")
    train(config, squares, tmp_path / "second")
    assert encoded.count == 0
    assert_same(remembered(tmp_path / "first"), remembered(tmp_path / "second"))


def test_what_cannot_be_kept_is_refused_in_words(
    small_run: TrainConfig, squares: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="trained along"):
        train(replace(small_run, cache=CacheConfig(text=True)), squares, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"data\.windows"):
        train(replace(small_run, cache=CacheConfig(latents=True)), squares, tmp_path / "b")


def test_the_quota_ends_the_writing_and_not_the_run(
    published: TrainConfig, squares: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(published, squares, tmp_path / "online")
    train(kept(published, tmp_path, quota_gb=1e-6), squares, tmp_path / "full")
    assert "is full" in caplog.text
    assert not list(tmp_path.glob("latents/*/part-*"))
    assert_same(remembered(tmp_path / "online"), remembered(tmp_path / "full"))


def test_half_precision_gives_the_same_run_whether_read_or_made(
    published: TrainConfig, squares: Path, tmp_path: Path
) -> None:
    config = kept(published, tmp_path, precision="fp16")
    for name in ("made", "read"):
        train(config, squares, tmp_path / name)
    assert_same(remembered(tmp_path / "made"), remembered(tmp_path / "read"))


def test_precisions_have_folders_of_their_own(tmp_path: Path) -> None:
    assert latents_folder(tmp_path, "a", "fp32") != latents_folder(tmp_path, "a", "fp16")
