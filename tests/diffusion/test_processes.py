from __future__ import annotations

import pytest
import torch
from torch import nn

from kinema.diffusion import speed
from kinema.diffusion.edm import EDMConfig, velocity
from kinema.diffusion.iddpm import IDDPMConfig, tables
from kinema.diffusion.processes import (
    add_noise,
    denoised,
    draw_index,
    losses,
    most_steps,
    noise_share,
    sampling_sigmas,
    timestep,
    told,
)
from kinema.diffusion.rectified_flow import RectifiedFlowConfig, draw_time, shift_time
from kinema.diffusion.samplers_ode import sample_euler

FLOW, DISCRETE = RectifiedFlowConfig(), IDDPMConfig(learned_variance=False, prediction="velocity")
CONTINUOUS = EDMConfig()
PROCESSES = pytest.mark.parametrize("process", [FLOW, DISCRETE, CONTINUOUS])


def sigma_of(process, index):
    match process:
        case RectifiedFlowConfig():
            return index / (1 - index)
        case IDDPMConfig():
            return tables(process).sigma[index]
        case EDMConfig():
            return index


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(seed: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 4, 3, 2, 2, generator=seeded(seed))


@PROCESSES
def test_training_and_sampling_tell_the_network_the_same(process):
    clean, noise, mask = normal(0), normal(1), torch.tensor([[False, True, True]] * 2)
    index = torch.stack([draw_index(process, (3, 2, 2), seeded(seed)) for seed in (3, 4)])
    noised = add_noise(process, clean, noise, index, mask)
    sigma = sigma_of(process, index)[:, None] * mask
    latents, step = told(process, clean + sigma[:, None, :, None, None] * noise, sigma)
    torch.testing.assert_close(latents, noised.latents, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(step, timestep(process, index, mask), rtol=1e-4, atol=1e-2)
    assert torch.equal(noised.latents[:, :, 0], clean[:, :, 0])


@PROCESSES
def test_the_perfect_output_has_no_loss_and_gives_the_clean_latents(process):
    clean, noise = normal(0), normal(1)
    index = torch.stack([draw_index(process, (3, 2, 2), seeded(seed)) for seed in (3, 4)])
    noised = add_noise(process, clean, noise, index)
    sigma = sigma_of(process, index)
    output = noise - clean if process is FLOW else velocity(clean, noise, sigma)
    assert losses(process, output, noised)["loss"].max() < 1e-9
    assert losses(process, output + 1, noised)["loss"].min() > 0.1
    sigma = sigma[:, None].expand(2, 3)
    estimate = denoised(process, output, clean + sigma[:, None, :, None, None] * noise, sigma)
    torch.testing.assert_close(estimate.clean, clean, rtol=1e-3, atol=1e-3)


@PROCESSES
def test_the_place_in_the_noise_range_is_a_share_of_the_draws(process):
    draws = torch.stack([draw_index(process, (3, 2, 2), seeded(seed)) for seed in range(400)])
    shares = noise_share(process, draws)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.05)
    assert (noise_share(process, draws.sort().values).diff() >= 0).all()


def test_continuous_sigma_has_any_number_of_steps():
    assert most_steps(CONTINUOUS) is None
    assert most_steps(DISCRETE) == 1000
    sigmas = sampling_sigmas(CONTINUOUS, 2000)
    assert (sigmas[0].item(), sigmas[-1].item()) == pytest.approx((700, 0))


def test_flow_times_are_logit_normal_and_shifted():
    times = torch.stack([draw_time(FLOW, 12, seeded(seed)) for seed in range(400)])
    assert times.logit().mean().item() == pytest.approx(0, abs=0.15)
    assert times.logit().std().item() == pytest.approx(1, abs=0.1)
    shifting = RectifiedFlowConfig(base_values=12)
    for values, factor in ((12, 1), (48, 2)):
        shifted = torch.stack([draw_time(shifting, values, seeded(seed)) for seed in range(400)])
        torch.testing.assert_close(
            shifted / (1 - shifted), factor * times / (1 - times), rtol=1e-3, atol=1e-3
        )
    assert shift_time(torch.tensor([0.0, 1.0]), 3.0).tolist() == [0, 1]


def test_speed_draws_steep_steps_often_and_their_mirror_images():
    process = IDDPMConfig(timesteps="speed")
    full = tables(process)
    generator = seeded(0)
    drawn = torch.stack([speed.draw_timestep(full, generator) for _ in range(3000)])
    chance = speed.probabilities(full)
    steep = chance > chance.mean()
    mirrored = torch.zeros_like(chance)
    last = speed.meaningful_steps(full)
    steps = torch.arange(len(full))
    images = torch.where(steps < last, last - steps, steps - last).clamp_max(len(full) - 1)
    mirrored.index_add_(0, images, chance)
    expected = ((chance + mirrored) / 2)[steep].sum().item()
    assert steep[drawn].float().mean().item() == pytest.approx(expected, abs=0.03)
    index = torch.tensor([100, 900])
    noised = add_noise(process, normal(0), normal(1), index)
    output = torch.zeros(2, 8, 3, 2, 2)
    plain, weighted = (losses(p, output, noised)["mse"] for p in (IDDPMConfig(), process))
    torch.testing.assert_close(weighted, plain * speed.step_weights(full)[index])


def test_sigmas_start_at_the_noise_of_training_and_end_at_none():
    full = tables(DISCRETE).sigma
    for schedule in ("respaced", "karras"):
        sigmas = sampling_sigmas(DISCRETE, 20, schedule)
        assert len(sigmas) == 21
        assert sigmas[0].item() == pytest.approx(full[-1].item(), rel=1e-4)
        assert sigmas[-2].item() == pytest.approx(full[0].item(), rel=1e-3)
        assert (sigmas.diff() < 0).all()
    flow = sampling_sigmas(RectifiedFlowConfig(base_values=1), 4, values=4)
    assert flow[1:].tolist() == pytest.approx([6, 2, 2 / 3, 0])


def test_a_small_network_learns_a_flow_to_two_points():
    """One value, -1 or +1: after training, Euler's method ends near one of them."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    generator = seeded(0)

    def predict(latents, step):
        told_step = (step / FLOW.steps)[:, None]
        return network(torch.cat([latents.flatten(1), told_step], 1))[:, :, None, None, None]

    for _ in range(500):
        clean = torch.randint(2, (512, 1, 1, 1, 1), generator=generator) * 2.0 - 1
        noise = torch.randn(clean.shape, generator=generator)
        time = torch.sigmoid(torch.randn(512, generator=generator))
        noised = add_noise(FLOW, clean, noise, time)
        loss = losses(FLOW, predict(noised.latents, timestep(FLOW, time, torch.ones(512, 1))[:, 0]), noised)[
            "loss"
        ].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def denoise(latents, sigma):
        scaled, step = told(FLOW, latents, sigma)
        return denoised(FLOW, predict(scaled, step[:, 0]), latents, sigma)

    samples = sample_euler(
        denoise, torch.randn(500, 1, 1, 1, 1, generator=generator), sampling_sigmas(FLOW, 40)
    )
    assert (samples.abs() - 1).abs().mean() < 0.1
    assert (samples > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("values", [{"steps": 1}, {"logit_std": 0.0}, {"base_values": 0}])
def test_nonsense_is_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        RectifiedFlowConfig(**values)
