"""Euler and Heun: they recover a Gaussian, given frames are untouched, churn draws only what it needs."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from kinema.diffusion.karras import karras_sigmas
from kinema.diffusion.protocols import Denoised
from kinema.diffusion.samplers_ode import Churn, sample_euler, sample_heun

SAMPLERS = [sample_euler, sample_heun]


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def gaussian(latents, sigma):
    """The posterior mean for data ~ N(0, 0.5^2)."""
    variance = rearrange(sigma, "b t -> b 1 t 1 1") ** 2
    return Denoised(latents * 0.25 / (0.25 + variance))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_recovers_a_gaussian(sampler):
    noise = torch.randn(1, 4, 4, 32, 32, generator=seeded(0))
    samples = sampler(gaussian, noise, karras_sigmas(200))
    assert samples.std().item() == pytest.approx(0.5, rel=0.05)


def test_heun_is_nearer_than_euler():
    noise = torch.randn(1, 4, 2, 8, 8, generator=seeded(0))
    exact = noise * 0.5
    errors = [
        (sampler(gaussian, noise, karras_sigmas(20, sigma_max=80.0)) - exact).abs().max()
        for sampler in SAMPLERS
    ]
    assert errors[1] < errors[0] / 3


@pytest.mark.parametrize("churn", [None, Churn(amount=20.0)])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_given_frames_are_exact_at_every_step_and_told_sigma_0(sampler, churn):
    noise, given = (torch.randn(2, 4, 3, 4, 4, generator=seeded(seed)) for seed in (0, 1))
    mask = torch.tensor([[False, True, True], [True, True, False]])
    kept = ~mask[:, None, :, None, None].expand_as(given)
    generator = seeded(2)

    def denoise(latents, sigma):
        assert torch.equal(sigma == 0, ~mask)
        assert torch.equal(latents[kept], given[kept])
        return Denoised(gaussian(latents, sigma).clean.nan_to_num())

    samples = sampler(
        denoise,
        noise,
        karras_sigmas(6),
        denoise_mask=mask,
        given=given,
        churn=churn,
        draw=lambda: torch.randn(noise.shape, generator=generator),
        watch=lambda _, latents: torch.testing.assert_close(latents[kept], given[kept], rtol=0, atol=0),
    )
    assert torch.equal(samples[kept], given[kept])
    assert samples.isfinite().all()


def test_generated_frames_do_not_depend_on_given_ones_of_an_independent_model():
    noise, given = (torch.randn(1, 4, 3, 4, 4, generator=seeded(seed)) for seed in (0, 1))
    mask = torch.tensor([[False, True, True]])
    with_given = sample_euler(gaussian, noise, karras_sigmas(5), denoise_mask=mask, given=given)
    without = sample_euler(gaussian, noise, karras_sigmas(5))
    assert torch.equal(with_given[:, :, 1:], without[:, :, 1:])


def test_no_churn_draws_nothing():
    noise = torch.randn(1, 4, 1, 2, 2, generator=seeded(0))

    def refuse():
        pytest.fail("drew noise")

    outside = Churn(amount=5.0, sigma_min=1e4)
    churned = sample_euler(gaussian, noise, karras_sigmas(5), churn=outside, draw=refuse)
    assert torch.equal(churned, sample_euler(gaussian, noise, karras_sigmas(5)))


def test_half_of_a_pair_is_refused():
    noise = torch.zeros(1, 4, 1, 2, 2)
    with pytest.raises(ValueError, match="belong together"):
        sample_euler(gaussian, noise, karras_sigmas(5), given=noise)
    with pytest.raises(ValueError, match="draw"):
        sample_heun(gaussian, noise, karras_sigmas(5), churn=Churn(amount=1.0))
