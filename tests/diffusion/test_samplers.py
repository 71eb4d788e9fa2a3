from __future__ import annotations

import pytest
import torch
from einops import rearrange

from kinema.diffusion.guidance import guide, split_rows
from kinema.diffusion.iddpm import IDDPMConfig, tables
from kinema.diffusion.protocols import Denoised
from kinema.diffusion.samplers import first_noised_steps, sample_ancestral

STD = 0.5


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def exact(latents, sigma):
    """The posterior mean for clean values ~ N(0, STD^2); a given frame is itself."""
    variance = rearrange(sigma**2, "b t -> b 1 t 1 1")
    return Denoised(latents * STD**2 / (STD**2 + variance))


def normal(seed, batch=2, frames=4):
    return torch.randn(batch, 4, frames, 3, 2, generator=seeded(seed))


def test_sampler_recovers_a_gaussian():
    noise = torch.randn(4096, 1, 1, 1, 1, generator=seeded(0))
    samples = sample_ancestral(exact, noise, tables(IDDPMConfig(), 400), seeded(1))
    assert samples.std().item() == pytest.approx(STD, rel=0.05)
    assert samples.mean().item() == pytest.approx(0, abs=0.03)


def test_a_known_clip_is_found():
    target = normal(5)
    samples = sample_ancestral(lambda *_: Denoised(target), normal(0), tables(IDDPMConfig(), 10), seeded(1))
    torch.testing.assert_close(samples, target, rtol=1e-3, atol=1e-3)


def test_the_same_seed_gives_the_same_bits():
    spaced = tables(IDDPMConfig(), 5)
    first, second, other = (sample_ancestral(exact, normal(0), spaced, seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_given_frames_come_back_bit_exact_and_are_shown_clean():
    given, mask = normal(5), torch.tensor([[False, True, True, True], [True, True, False, False]])
    seen = []

    def watch(latents, sigma):
        seen.append((latents, sigma))
        return exact(latents, sigma)

    samples = sample_ancestral(
        watch, normal(0), tables(IDDPMConfig(), 6), seeded(1), denoise_mask=mask, given=given
    )
    frames = rearrange(mask, "b t -> b 1 t 1 1").expand_as(given)
    assert torch.equal(samples[~frames], given[~frames])
    assert not torch.isclose(samples[frames], given[frames]).any()
    for latents, sigma in seen:
        assert torch.equal(latents[~frames], given[~frames])
        assert torch.equal(sigma > 0, mask)


def test_an_all_true_mask_is_plain_generation():
    spaced, mask = tables(IDDPMConfig(), 6), torch.ones(2, 4, dtype=torch.bool)
    plain = sample_ancestral(exact, normal(0), spaced, seeded(1))
    masked = sample_ancestral(exact, normal(0), spaced, seeded(1), denoise_mask=mask, given=normal(5))
    assert torch.equal(plain, masked)


def test_an_edit_starts_at_the_level_that_the_network_is_told():
    """At its first noised step an edited frame is clean + sigma noise for the very sigma it is shown with."""
    spaced, given, noise = tables(IDDPMConfig(), 10), normal(5), normal(0)
    strength = torch.tensor([[0.0, 0.4, 1.0, 0.05], [0.7, 1.0, 0.0, 1.0]])
    told = []

    def watch(latents, sigma):
        for row, frame in [(0, 1), (1, 0)]:
            if sigma[row, frame] > 0 and not any(entry[:2] == (row, frame) for entry in told):
                told.append((row, frame, sigma[row, frame].item()))
                expected = given[row, :, frame] + sigma[row, frame] * noise[row, :, frame]
                torch.testing.assert_close(latents[row, :, frame], expected, rtol=1e-4, atol=1e-4)
        return exact(latents, sigma)

    samples = sample_ancestral(watch, noise, spaced, seeded(1), denoise_mask=strength, given=given)
    assert told == [
        (1, 0, pytest.approx(spaced.sigma[6].item())),
        (0, 1, pytest.approx(spaced.sigma[3].item())),
    ]
    assert torch.equal(samples[0, :, 0], given[0, :, 0])


def test_weaker_edits_stay_closer():
    spaced, given = tables(IDDPMConfig(), 50), STD * normal(5, batch=64)
    distances = []
    for strength in (0.1, 0.3, 0.6):
        mask = torch.full((64, 4), strength)
        samples = sample_ancestral(
            exact, normal(0, batch=64), spaced, seeded(1), denoise_mask=mask, given=given
        )
        distances.append((samples - given).square().mean().item())
    assert distances == sorted(distances)
    assert distances[0] < distances[2] / 2


def test_only_strength_zero_means_given():
    counts = first_noised_steps(torch.tensor([[0.0, 0.001, 0.4, 1.0]]), 10)
    assert counts.tolist() == [[0, 1, 4, 10]]


def test_a_mask_needs_what_is_given():
    with pytest.raises(ValueError, match="belong together"):
        sample_ancestral(
            exact, normal(0), tables(IDDPMConfig(), 2), seeded(1), denoise_mask=torch.ones(2, 4).bool()
        )


def test_guidance_is_off_at_one_and_extrapolates_beyond():
    conditional, unconditional = Denoised(normal(0), normal(1)), Denoised(normal(2), normal(3))
    assert torch.equal(guide(conditional, unconditional, 1.0).clean, conditional.clean)
    guided = guide(conditional, unconditional, 3.0)
    expected = unconditional.clean + 3 * (conditional.clean - unconditional.clean)
    torch.testing.assert_close(guided.clean, expected)
    assert guided.variance_fraction is conditional.variance_fraction


def test_guidance_of_some_channels_leaves_the_others():
    conditional, unconditional = Denoised(normal(0)), Denoised(normal(2))
    guided = guide(conditional, unconditional, 3.0, channels=3).clean
    assert torch.equal(guided[:, 3:], conditional.clean[:, 3:])
    assert torch.equal(guided[:, :3], guide(conditional, unconditional, 3.0).clean[:, :3])


def test_split_rows():
    pair = Denoised(torch.cat([normal(0), normal(1)]), torch.cat([normal(2), normal(3)]))
    first, second = split_rows(pair, 2)
    assert torch.equal(first.clean, normal(0))
    assert torch.equal(second.variance_fraction, normal(3))
    assert split_rows(Denoised(normal(0)), 2)[0].variance_fraction is None
