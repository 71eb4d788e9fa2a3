from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from kinema.conventions import CONVENTIONS
from kinema.denoiser import Given, VideoShape, build_denoise, condition, sample_latents
from kinema.diffusion.iddpm import IDDPMConfig, add_noise, tables
from kinema.encoders.autoencoder_kl import CausalAutoencoder, CausalAutoencoderConfig
from kinema.encoders.embedded import PatchPCA, PatchPCAConfig, WordTextConfig, WordTextEncoder
from kinema.model import Model, SamplingDefaults, TrainedOn
from kinema.nn import STDiT2, STDiT2Config

SHAPE = VideoShape(height=32, width=48, frames=3, fps=6.0)


@pytest.fixture(params=["clean", "noise", "velocity"])
def model(request: pytest.FixtureRequest) -> Model:
    torch.manual_seed(0)
    network = STDiT2(
        STDiT2Config(
            depth=1, hidden=24, heads=2, in_channels=4, caption_channels=8, max_tokens=5, input_sq_size=32
        )
    ).requires_grad_(False)
    nn.init.normal_(network.final_layer.linear.weight, std=0.1)
    nn.init.normal_(network.blocks[0].cross_attn.proj.weight, std=0.1)
    return Model(
        network=network,
        process=IDDPMConfig(prediction=request.param),
        autoencoder=PatchPCA(PatchPCAConfig(components=4)),
        text_encoder=WordTextEncoder(
            WordTextConfig(width=8, heads=2, max_tokens=5), ["red", "square"]
        ).requires_grad_(False),
        sampling=SamplingDefaults(height=32, width=48, frames=3, fps=6.0, steps=3, guidance_scale=2.0),
        trained_on=TrainedOn(dataset="none", clips=0, steps=0, samples=0),
    )


def normal(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 3, 4, 6, generator=torch.Generator().manual_seed(seed))


def test_training_and_sampling_see_the_same_network(model: Model) -> None:
    """The clean estimate at the seam is the one that training compares, whatever the network predicts."""
    full = tables(model.process)
    index = torch.tensor([400])
    mask = torch.tensor([[False, True, True]])
    clean, noise = normal(0), normal(1)
    noised = add_noise(full, clean, noise, index, mask)
    conditioning = condition(model.text_encoder.encode(["red square"]), SHAPE)
    output = model.network(noised.latents, index.float(), conditioning, mask).chunk(2, dim=1)[0]
    alpha = full.alphas_cumprod[400]
    expected = {
        "clean": output,
        "noise": (noised.latents - (1 - alpha).sqrt() * output) / alpha.sqrt(),
        "velocity": alpha.sqrt() * noised.latents - (1 - alpha).sqrt() * output,
    }[model.process.prediction]
    sigma = mask * full.sigma[400]
    denoised = build_denoise(model, conditioning)(clean + sigma[:, None, :, None, None] * noise, sigma)
    torch.testing.assert_close(denoised.clean[:, :, 1:], expected[:, :, 1:], atol=1e-4, rtol=1e-4)
    assert torch.equal(denoised.clean[:, :, 0], clean[:, :, 0])


def test_guidance_extrapolates_from_the_null_caption(model: Model) -> None:
    conditioning = condition(model.text_encoder.encode(["red square"]), SHAPE)
    null = conditioning.with_caption(model.network.null_tokens(5))
    latents, sigma = 3 * normal(0), torch.full((1, 3), 3.0)
    with_text = build_denoise(model, conditioning)(latents, sigma).clean
    without = build_denoise(model, null)(latents, sigma).clean
    guided = build_denoise(model, conditioning, guidance_scale=2.5)(latents, sigma).clean
    assert not torch.allclose(with_text, without)
    torch.testing.assert_close(guided, without + 2.5 * (with_text - without), atol=1e-4, rtol=1e-4)


def test_given_frames_come_back_exactly(model: Model) -> None:
    given = Given(latents=normal(3), denoise_mask=torch.tensor([[False, True, False]]))
    latents = sample_latents(
        model,
        "red square",
        SHAPE,
        steps=4,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(0),
        given=given,
    )
    assert torch.equal(latents[:, :, [0, 2]], given.latents[:, :, [0, 2]])
    assert not torch.equal(latents[:, :, 1], given.latents[:, :, 1])


def test_every_step_is_counted(model: Model) -> None:
    counted: list[int] = []
    latents = sample_latents(
        model,
        "red",
        SHAPE,
        steps=4,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        on_step=lambda _: counted.append(1),
    )
    assert len(counted) == 4
    assert latents.shape == (1, *SHAPE.latent_shape(model.autoencoder))


def test_the_preset_published_tells_the_network_what_its_weights_know(model: Model) -> None:
    text = model.text_encoder.encode(["red square"])
    published = CONVENTIONS["published"]
    told = condition(text, SHAPE, conventions=published)
    assert (told.aspect_ratio.item(), told.fps.item()) == (48 / 32, 18.0)
    own = condition(text, SHAPE)
    assert (own.aspect_ratio.item(), own.fps.item()) == (pytest.approx(32 / 48), 6.0)
    image = replace(SHAPE, frames=1)
    assert (
        condition(text, image, conventions=published).fps.item() == condition(text, image).fps.item() == 120
    )


def test_the_preset_published_guides_three_channels(model: Model) -> None:
    conditioning = condition(model.text_encoder.encode(["red square"]), SHAPE)
    latents, sigma = 3 * normal(0), torch.full((1, 3), 3.0)
    plain = build_denoise(model, conditioning)(latents, sigma).clean
    full = build_denoise(model, conditioning, guidance_scale=4.0)(latents, sigma).clean
    quirky = replace(model, preset="published")
    guided = build_denoise(quirky, conditioning, guidance_scale=4.0)(latents, sigma).clean
    torch.testing.assert_close(guided[:, :3], full[:, :3])
    torch.testing.assert_close(guided[:, 3:], plain[:, 3:])
    assert not torch.allclose(guided[:, 3:], full[:, 3:])


def test_latents_of_compressed_time() -> None:
    autoencoder = CausalAutoencoder(CausalAutoencoderConfig())
    for frames, latent in ((1, 1), (17, 5), (18, 6)):
        assert replace(SHAPE, frames=frames).latent_shape(autoencoder) == (16, latent, 4, 6)
