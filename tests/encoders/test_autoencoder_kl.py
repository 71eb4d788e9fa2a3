from __future__ import annotations

from pathlib import Path

import pytest
import torch

from kinema.encoders.autoencoder_kl import (
    CausalAutoencoder,
    CausalAutoencoderConfig,
    FrameAutoencoder,
    FrameAutoencoderConfig,
)
from kinema.encoders.protocols import training_latents
from kinema.errors import CheckpointError


@pytest.fixture
def frames(published_encoders: Path) -> FrameAutoencoder:
    return FrameAutoencoder(FrameAutoencoderConfig(source=str(published_encoders / "vae"), micro_batch=2))


@pytest.fixture
def temporal(published_encoders: Path) -> CausalAutoencoder:
    config = CausalAutoencoderConfig(
        source=str(published_encoders / "cogvideox"), subfolder="", latent_channels=6
    )
    return CausalAutoencoder(config)


def noise(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_frames_are_encoded_one_by_one_and_scaled(frames: FrameAutoencoder) -> None:
    video = noise(2, 3, 3, 24, 30)
    latents = frames.encode(video)
    assert latents.shape == (2, 4, 3, 3, 3)
    alone = frames.part.encode(video[1, :, 2][None]).latent_dist.mode() * 0.18215
    torch.testing.assert_close(latents[1, :, 2], alone[0])
    torch.testing.assert_close(frames.decode(latents)[1, :, 2], frames.part.decode(alone / 0.18215).sample[0])


def test_training_draws_and_generation_does_not(frames: FrameAutoencoder) -> None:
    video = noise(2, 3, 2, 16, 16)
    drawn = training_latents(frames, video, [7, 8])
    assert torch.equal(drawn, training_latents(frames, video, [7, 8]))
    assert torch.equal(drawn[1:], training_latents(frames, video[1:], [8]))
    assert not torch.equal(drawn, frames.encode(video))
    spread = (drawn - frames.encode(video)).std() / frames._moments(video)[1].mean() / 0.18215
    assert 0.6 < spread < 1.5


@pytest.mark.parametrize(("count", "latent", "decoded"), [(1, 1, 1), (5, 2, 5), (8, 3, 9), (13, 4, 13)])
def test_time_is_compressed_four_times(
    temporal: CausalAutoencoder, count: int, latent: int, decoded: int
) -> None:
    latents = temporal.encode(noise(1, 3, count, 16, 20))
    assert latents.shape == (1, 6, latent, 2, 2)
    assert temporal.decode(latents).shape == (1, 3, decoded, 16, 16)


def test_an_unfilled_latent_frame_repeats_the_last_frame(temporal: CausalAutoencoder) -> None:
    video = noise(1, 3, 7, 16, 16)
    filled = torch.cat([video, video[:, :, -1:], video[:, :, -1:]], dim=2)
    assert torch.equal(temporal.encode(video), temporal.encode(filled))
    own = temporal.part.encode(filled).latent_dist.mode()
    torch.testing.assert_close(temporal.encode(video), own * 1.15258426)
    torch.testing.assert_close(temporal.decode(own * 1.15258426), temporal.part.decode(own).sample)


def test_training_draws_through_time_as_well(temporal: CausalAutoencoder) -> None:
    video = noise(2, 3, 5, 16, 16)
    drawn = training_latents(temporal, video, [1, 2])
    assert torch.equal(drawn, training_latents(temporal, video, [1, 2]))
    assert not torch.equal(drawn, temporal.encode(video))


def test_weights_of_another_size_are_named(published_encoders: Path) -> None:
    wrong = FrameAutoencoder(
        FrameAutoencoderConfig(source=str(published_encoders / "vae"), latent_channels=16)
    )
    with pytest.raises(CheckpointError, match="latent_channels is 4, the model was made with 16"):
        wrong.encode(noise(1, 3, 1, 16, 16))


def test_pickled_weights_are_refused(published_encoders: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((published_encoders / "vae" / "config.json").read_text())
    (tmp_path / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        FrameAutoencoder(FrameAutoencoderConfig(source=str(tmp_path))).encode(noise(1, 3, 1, 16, 16))


def test_a_source_that_is_neither_folder_nor_hub_name_is_refused() -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a hub name"):
        FrameAutoencoder(FrameAutoencoderConfig(source="./nowhere")).encode(noise(1, 3, 1, 16, 16))
