"""The temporal autoencoder's adapter: scales, chunks without a seam, folders."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder
from safetensors.torch import load_file, save_file

from kinema.encoders.autoencoder import TemporalAutoencoder, chunks, fade
from kinema.encoders.folder import load_autoencoder, save_autoencoder
from kinema.errors import CheckpointError

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    network = AutoencoderKLTemporalDecoder(
        block_out_channels=(32, 32), down_block_types=("DownEncoderBlock2D",) * 2
    )
    return network.eval().requires_grad_(False)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def test_encode_is_the_scaled_mode_of_every_frame(network):
    video = torch.randn(2, 3, 5, 18, 16, generator=seeded(0))
    autoencoder = TemporalAutoencoder(network, chunk=3, overlap=1)
    latents = autoencoder.encode(video)
    assert latents.shape == (2, 4, 5, 9, 8)
    mode = network.encode(video[1, :, 3][None]).latent_dist.mode()[0]
    torch.testing.assert_close(latents[1, :, 3], 0.18215 * mode, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(autoencoder.encode_unscaled(video) * 0.18215, latents)
    drawn = [autoencoder.encode(video, seeded(7)) for _ in range(2)]
    assert torch.equal(*drawn)
    assert not torch.allclose(drawn[0], latents)


def test_a_short_clip_is_decoded_at_once(network):
    latents = torch.randn(2, 4, 5, 8, 8, generator=seeded(0))
    decoded = TemporalAutoencoder(network, chunk=5, overlap=2).decode(latents)
    expected = network.decode(latents[1].transpose(0, 1) / 0.18215, num_frames=5).sample.transpose(0, 1)
    assert torch.equal(decoded[1], expected)


@pytest.mark.parametrize("frames", range(6, 30))
def test_chunks_cover_every_frame_and_overlap(frames):
    parts = list(chunks(frames, 6, 2))
    assert parts[0].start == 0
    assert parts[-1].stop == frames
    assert all(part.stop - part.start == 6 for part in parts)
    assert all(a.stop - b.start >= 2 for a, b in pairwise(parts))
    assert len(parts) == len({part.start for part in parts})


def test_a_fade_goes_from_one_chunk_to_the_next_and_spares_the_edges():
    ramp = fade(10)
    share = ramp[:4] / (ramp[:4] + ramp[-4:])
    torch.testing.assert_close(share, torch.tensor([1 / 65, 8 / 35, 27 / 35, 64 / 65]))


def test_25_frames_are_two_chunks_of_14():
    assert [part.start for part in chunks(25, 14, 3)] == [0, 11]
    assert [part.start for part in chunks(25, 14, 4)] == [0, 5, 11]


def largest_jump(network, latents, overlap):
    """The largest change from frame to frame away from the clip's ends, over that of decoding at once."""
    at_once = TemporalAutoencoder(network, chunk=100, overlap=0).decode(latents)
    chunked = TemporalAutoencoder(network, chunk=14, overlap=overlap).decode(latents)
    jumps = [video.diff(dim=2).square().mean(dim=(0, 1, 3, 4)).sqrt()[5:-5] for video in (chunked, at_once)]
    return (jumps[0].amax() / jumps[1].amax()).item()


def test_no_seam_where_chunks_meet(network):
    ends = torch.randn(2, 1, 4, 1, 8, 8, generator=seeded(3))
    latents = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, 42)[:, None, None])
    assert largest_jump(network, latents, overlap=0) > 5
    assert largest_jump(network, latents, overlap=4) < 1.3


def test_there_and_back(network, tmp_path):
    autoencoder = TemporalAutoencoder(network)
    save_autoencoder(tmp_path, autoencoder)
    theirs = AutoencoderKLTemporalDecoder.from_pretrained(tmp_path)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in theirs.state_dict().items())
    loaded = load_autoencoder(tmp_path)
    assert (loaded.latent_channels, loaded.spatial_factor, loaded.temporal_factor) == (4, 2, 1)
    latents = torch.randn(1, 4, 3, 4, 4, generator=seeded(0))
    assert torch.equal(loaded.decode(latents), autoencoder.decode(latents))


def test_what_does_not_fit_is_named(network, tmp_path):
    save_autoencoder(tmp_path, TemporalAutoencoder(network))
    state = load_file(tmp_path / WEIGHTS)
    save_file(state | {"quant_conv.weight": torch.zeros(2, 2, 1, 1)}, tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match=r"quant_conv\.weight.*\[2, 2, 1, 1\].*\[8, 8, 1, 1\]"):
        load_autoencoder(tmp_path)
    (tmp_path / WEIGHTS).unlink()
    with pytest.raises(CheckpointError, match=WEIGHTS):
        load_autoencoder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    with pytest.raises(CheckpointError, match="unknown autoencoder kind"):
        load_autoencoder(tmp_path)


def test_an_overlap_as_long_as_the_chunk_is_refused(network):
    with pytest.raises(ValueError, match="overlap 4, chunk 4"):
        TemporalAutoencoder(network, chunk=4, overlap=4)
