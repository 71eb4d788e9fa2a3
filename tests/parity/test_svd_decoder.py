"""The temporal decoder, through the adapter, against outputs of the original implementation."""

from __future__ import annotations

from diffusers import AutoencoderKLTemporalDecoder
from einops import rearrange

from kinema.encoders.autoencoder import TemporalAutoencoder

ORIGINAL = "svd/sgm_video_decoder"


def test_output_of_the_original(read):
    meta = read(f"{ORIGINAL}/meta_and_keymap").facts
    sizes = meta["diffusers_config"]
    network = AutoencoderKLTemporalDecoder(
        **sizes, down_block_types=("DownEncoderBlock2D",) * len(sizes["block_out_channels"])
    ).eval()
    state = {}
    for key, value in read(f"{ORIGINAL}/state_dict_fp16").tensors.items():
        flat = value.flatten(1) if key in meta["reshape_1x1_conv_to_linear"] else value
        state[meta["key_map"][key]] = flat.float()
    network.decoder.load_state_dict(state)
    autoencoder = TemporalAutoencoder(network)
    fixture = read(f"{ORIGINAL}/io_fp32")
    latents = rearrange(fixture.tensors["z"], "(b t) c h w -> b c t h w", t=meta["T"])
    decoded = autoencoder.decode(latents * autoencoder.scale)
    got = rearrange(decoded, "b c t h w -> (b t) c h w")
    error = (got - fixture.tensors["out"]).abs().max().item()
    assert error <= 2e-5, f"{error:.2e}"
