"""The samplers over continuous sigma, on data whose posterior mean is known."""

from __future__ import annotations

import math

import pytest
import torch
from einops import rearrange

from kinema.diffusion.iddpm import IDDPMConfig, tables
from kinema.diffusion.karras import karras_sigmas
from kinema.diffusion.processes import sampling_sigmas
from kinema.diffusion.protocols import Denoised
from kinema.diffusion.rectified_flow import RectifiedFlowConfig
from kinema.diffusion.samplers_ode import sample_ddim, sample_dpmpp_2m, sample_euler, sample_heun

STD = 0.5
ALL = [sample_ddim, sample_euler, sample_heun, sample_dpmpp_2m]
SCHEDULES = {
    "respaced": sampling_sigmas(IDDPMConfig(), 60),
    "karras": sampling_sigmas(IDDPMConfig(), 60, "karras"),
    "flow": sampling_sigmas(RectifiedFlowConfig(), 60),
}


def exact(latents, sigma):
    """The posterior mean for clean values ~ N(0, STD^2); a given frame is itself."""
    return Denoised(latents * STD**2 / (STD**2 + rearrange(sigma**2, "b t -> b 1 t 1 1")))


def normal(seed, batch=2, frames=4):
    return torch.randn(batch, 4, frames, 3, 2, generator=torch.Generator().manual_seed(seed)).double()


def solution(noise, sigmas):
    """The end of the exact path from the first sigma to the last."""
    start, end = sigmas[0].double(), sigmas[-1].double()
    return noise * (1 + start**2).sqrt() * ((STD**2 + end**2) / (STD**2 + start**2)).sqrt()


@pytest.mark.parametrize("sampler", ALL)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_gaussian_is_recovered(sampler, schedule):
    samples = sampler(exact, normal(0, batch=200), SCHEDULES[schedule])
    assert samples.std().item() == pytest.approx(STD, rel=0.05)
    assert samples.mean().item() == pytest.approx(0, abs=0.03)


@pytest.mark.parametrize(
    ("sampler", "order"), [(sample_ddim, 1), (sample_euler, 1), (sample_heun, 2), (sample_dpmpp_2m, 2)]
)
def test_the_error_falls_with_the_order(sampler, order):
    noise, errors = normal(0), []
    for steps in (80, 160):
        sigmas = karras_sigmas(steps, 0.05, 20.0)[:-1]
        errors.append((sampler(exact, noise, sigmas) - solution(noise, sigmas)).abs().max().item())
    assert math.log2(errors[0] / errors[1]) > order - 0.3
    assert errors[1] < 0.05 / order**2


@pytest.mark.parametrize("sampler", ALL)
def test_given_frames_come_back_bit_exact_and_are_shown_clean(sampler):
    given, mask = normal(5), torch.tensor([[False, True, True, True], [True, True, False, False]])
    frames = rearrange(mask, "b t -> b 1 t 1 1").expand_as(given)

    def watch(latents, sigma):
        assert torch.equal(latents[~frames], given[~frames])
        assert torch.equal(sigma > 0, mask)
        return exact(latents, sigma)

    samples = sampler(watch, normal(0), karras_sigmas(6, 0.02, 20.0), denoise_mask=mask, given=given)
    assert torch.equal(samples[~frames], given[~frames])
    assert not torch.isclose(samples[frames], given[frames]).any()


@pytest.mark.parametrize("sampler", ALL)
def test_an_edit_starts_at_the_level_that_the_network_is_told(sampler):
    given, noise = normal(5), normal(0)
    strength = torch.tensor([[0.0, 0.4, 1.0, 0.05], [0.7, 1.0, 0.0, 1.0]])
    sigmas, told = karras_sigmas(10, 0.02, 20.0), {}

    def watch(latents, sigma):
        for row, frame in [(0, 1), (1, 0)]:
            if sigma[row, frame] > 0 and (row, frame) not in told:
                told[row, frame] = sigma[row, frame].item()
                start = given[row, :, frame] + sigma[row, frame] * noise[row, :, frame]
                torch.testing.assert_close(latents[row, :, frame], start)
        return exact(latents, sigma)

    samples = sampler(watch, noise, sigmas, denoise_mask=strength, given=given)
    assert told == {(1, 0): pytest.approx(sigmas[3].item()), (0, 1): pytest.approx(sigmas[6].item())}
    assert torch.equal(samples[0, :, 0], given[0, :, 0])


@pytest.mark.parametrize("sampler", ALL)
def test_an_all_true_mask_is_plain_generation(sampler):
    sigmas, mask = karras_sigmas(6, 0.02, 20.0), torch.ones(2, 4, dtype=torch.bool)
    plain = sampler(exact, normal(0), sigmas)
    assert torch.equal(plain, sampler(exact, normal(0), sigmas, denoise_mask=mask, given=normal(5)))


def test_ddim_without_noise_is_euler_and_with_it_is_the_ancestral_step():
    sigmas, noise = sampling_sigmas(IDDPMConfig(), 10), normal(0)
    torch.testing.assert_close(sample_ddim(exact, noise, sigmas), sample_euler(exact, noise, sigmas))
    spaced = tables(IDDPMConfig(), 10)
    last, before = sigmas[0].double(), sigmas[1].double()
    start = noise * (1 + last**2).sqrt()
    mean = sample_ddim(
        exact, noise, torch.stack([last, before]), eta=1.0, draw=lambda: torch.zeros_like(noise)
    )
    clean = exact(start, last.expand(2, 4)).clean
    kept = spaced.alphas_cumprod.double()[-2].sqrt()
    posterior = spaced.posterior_mean_coef1[-1] * clean
    posterior = posterior + spaced.posterior_mean_coef2[-1] * start * spaced.alphas_cumprod[-1].sqrt()
    torch.testing.assert_close(mean * kept, posterior, rtol=1e-4, atol=1e-4)


def test_noise_needs_a_source():
    with pytest.raises(ValueError, match="needs draw"):
        sample_ddim(exact, normal(0), karras_sigmas(3), eta=0.5)


def test_a_mask_needs_what_is_given():
    with pytest.raises(ValueError, match="belong together"):
        sample_dpmpp_2m(exact, normal(0), karras_sigmas(3), denoise_mask=torch.ones(2, 4).bool())
