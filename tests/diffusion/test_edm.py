"""The EDM process: identities of its coefficients, the loss's average, and given frames."""

from __future__ import annotations

import pytest
import torch

from kinema.diffusion.edm import (
    EDMConfig,
    adapting,
    add_noise,
    denoiser,
    draw_sigma,
    frame_sigma,
    image_timestep,
    loss_weight,
    losses,
    shift,
    told,
    velocity,
)
from kinema.diffusion.karras import image_model_sigmas
from kinema.nn.video_unet import VideoUNet, VideoUNetConfig


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def pair(batch=3, frames=4):
    clean, noise = (torch.randn(batch, 4, frames, 2, 2, generator=seeded(seed)) for seed in (0, 1))
    return clean, noise


def zero(latents, _):
    return torch.zeros_like(latents)


def edm_loss(network, config, clean, noise, sigma, mask=None):
    """As training computes it."""
    noised = add_noise(config, clean, noise, sigma, mask)
    output = network(noised.latents, told(config, frame_sigma(sigma, clean.shape[2], mask)))
    return losses(config, output, noised)["loss"]


def test_the_loss_is_the_plain_error_of_the_velocity_unreduced():
    clean, noise = pair()
    sigma = torch.tensor([0.1, 1.0, 30.0])
    found = edm_loss(zero, EDMConfig(), clean, noise, sigma)
    expected = (velocity(clean, noise, sigma) ** 2).mean(dim=(1, 2, 3, 4))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_weighted_error_of_the_clean_estimate():
    clean, noise = pair()
    sigma = torch.tensor([0.1, 1.0, 30.0])
    for config in (EDMConfig(), EDMConfig(prediction="edm", sigma_data=0.5), EDMConfig(prediction="noise")):
        guess = torch.randn(clean.shape, generator=seeded(2))
        latents = clean + sigma[:, None, None, None, None] * noise
        estimate = denoiser(lambda *_, guess=guess: guess, config)(
            latents, sigma[:, None].expand(-1, 4)
        ).clean
        weighted = loss_weight(config, sigma) * (estimate - clean).square().mean(dim=(1, 2, 3, 4))
        found = edm_loss(lambda *_, guess=guess: guess, config, clean, noise, sigma)
        torch.testing.assert_close(found, weighted, rtol=1e-3, atol=1e-4)


def test_a_network_that_knows_the_velocity_has_no_loss_and_denoises():
    clean, noise = pair()
    sigma = torch.tensor([0.1, 1.0, 30.0])
    target = velocity(clean, noise, sigma)
    assert edm_loss(lambda *_: target, EDMConfig(), clean, noise, sigma).max() < 1e-6


@pytest.mark.parametrize("prediction", ["velocity", "edm", "noise"])
def test_the_network_sees_unit_variance(prediction):
    config = EDMConfig(prediction=prediction, sigma_data=0.5 if prediction == "edm" else 1.0)
    generator, seen = seeded(0), []
    clean = torch.randn(1, 4, 8, 32, 32, generator=generator) * config.sigma_data
    noise = torch.randn(clean.shape, generator=generator)

    def network(latents, _):
        seen.append(latents.std().item())
        return torch.zeros_like(latents)

    for sigma in (0.05, 1.0, 20.0):
        edm_loss(network, config, clean, noise, torch.tensor([sigma]))
    assert seen == pytest.approx([1.0] * 3, rel=0.02)


def test_given_frames_stay_clean_are_told_so_and_do_not_count():
    clean, noise = pair(batch=2)
    mask = torch.tensor([[False, True, True, False], [True, True, True, True]])
    sigma = torch.tensor([5.0, 0.3])
    calls = []

    def network(latents, c_noise):
        calls.append((latents, c_noise))
        return torch.zeros_like(latents)

    config = EDMConfig()
    found = edm_loss(network, config, clean, noise, sigma, mask)
    latents, c_noise = calls[0]
    torch.testing.assert_close(latents[0, :, 0], clean[0, :, 0], rtol=1e-5, atol=0)
    lowest = 0.25 * torch.tensor(config.sigma_min).log()
    assert torch.equal(c_noise[0] == lowest, ~mask[0])
    per_frame = (velocity(clean, noise, sigma) ** 2).mean(dim=(1, 3, 4))
    expected = torch.stack([per_frame[0, 1:3].mean(), per_frame[1].mean()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_clip_with_nothing_to_generate_has_loss_zero():
    clean, noise = pair(batch=1)
    found = edm_loss(zero, EDMConfig(), clean, noise, torch.ones(1), torch.zeros(1, 4, dtype=torch.bool))
    assert found.tolist() == [0.0]


def test_per_frame_sigmas_weigh_each_frame_by_its_own():
    clean, noise = pair(batch=1)
    sigma = torch.tensor([[0.1, 1.0, 3.0, 80.0]])
    alone = [edm_loss(zero, EDMConfig(), clean[:, :, [i]], noise[:, :, [i]], sigma[:, i]) for i in range(4)]
    together = edm_loss(zero, EDMConfig(), clean, noise, sigma)
    torch.testing.assert_close(together, torch.stack(alone).mean(dim=0), rtol=1e-5, atol=1e-6)


def test_given_frames_come_back_bit_for_bit():
    clean, noise = pair(batch=1)
    sigma = torch.tensor([[0.0, 2.0, 0.0, 2.0]])
    denoised = denoiser(lambda latents, _: noise.expand_as(latents), EDMConfig())(clean, sigma).clean
    assert torch.equal(denoised[:, :, ::2], clean[:, :, ::2])
    assert not torch.equal(denoised[:, :, 1::2], clean[:, :, 1::2])


def test_more_pixels_more_noise():
    base = EDMConfig(base_area=32 * 48)
    small, large = (draw_sigma(base, area, seeded(0)).log() for area in (32 * 48, 64 * 96))
    assert (large - small).item() == pytest.approx(0.693147, abs=1e-5)
    assert torch.equal(draw_sigma(EDMConfig(), 64 * 96, seeded(0)).log(), small)


def test_averaging_down_leaves_the_trained_noise():
    """What the shift rests on: 2x2 means of noise at the doubled sigma are noise at the old one."""
    rise = shift(EDMConfig(base_area=32 * 32), 64 * 64)
    noise = torch.randn(1, 1, 512, 512, generator=seeded(0)) * torch.tensor(rise).exp()
    assert torch.nn.functional.avg_pool2d(noise, 2).std().item() == pytest.approx(1.0, rel=0.01)


def test_drawn_sigmas_are_log_normal():
    config, generator = EDMConfig(p_mean=0.7, p_std=1.6), seeded(0)
    logs = torch.stack([draw_sigma(config, 1, generator) for _ in range(8000)]).log()
    assert logs.mean().item() == pytest.approx(0.7, abs=0.05)
    assert logs.std().item() == pytest.approx(1.6, rel=0.03)


def test_discrete_steps_of_the_image_model():
    table = image_model_sigmas().flip(0)
    assert torch.equal(image_timestep(table), torch.arange(1000).float())
    assert image_timestep(torch.tensor([0.0, 1e6])).tolist() == [0.0, 999.0]


def test_only_the_time_embedding_adapts():
    with torch.device("meta"):
        network = VideoUNet(VideoUNetConfig(channels=(32,), heads=(1,), attention=(True,), layers=1))
    names = {name for name, _ in network.named_parameters() if adapting(name)}
    assert names == {f"time_embedding.linear_{n}.{part}" for n in (1, 2) for part in ("weight", "bias")}


def test_weight_falls_with_noise():
    weights = loss_weight(EDMConfig(), torch.tensor([0.1, 1.0, 700.0]))
    torch.testing.assert_close(weights, torch.tensor([101.0, 2.0, 1.0]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "wrong", [{"sigma_data": 0.0}, {"p_std": -1.0}, {"sigma_min": 800.0}, {"sigma_data": 0.5}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValueError, match="sigma"):
        EDMConfig(**wrong)
