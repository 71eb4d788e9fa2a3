from __future__ import annotations

import pytest
import torch

from kinema.diffusion.iddpm import (
    IDDPMConfig,
    add_noise,
    clean_from_prediction,
    denoised_from_output,
    losses,
    network_latents,
    tables,
    timestep_from_sigma,
)

SPACES = ["noise", "clean", "velocity"]
INDEX = torch.tensor([0, 300, 999])


def normal(seed, batch=3):
    return torch.randn(batch, 4, 5, 2, 3, generator=torch.Generator().manual_seed(seed))


def perfect(space, full, clean, noise):
    signal = full.sqrt_alphas_cumprod[INDEX].reshape(-1, 1, 1, 1, 1)
    amount = full.sqrt_one_minus_alphas_cumprod[INDEX].reshape(-1, 1, 1, 1, 1)
    return {"noise": noise, "clean": clean, "velocity": signal * noise - amount * clean}[space]


@pytest.mark.parametrize("space", SPACES)
def test_a_perfect_prediction_gives_the_clean_latents_and_no_mse(space):
    config, clean, noise = IDDPMConfig(prediction=space, learned_variance=False), normal(0), normal(1)
    full = tables(config)
    noised = add_noise(full, clean, noise, INDEX)
    output = perfect(space, full, clean, noise)
    estimate = clean_from_prediction(config, full, output, noised.latents, INDEX)
    torch.testing.assert_close(estimate, clean, rtol=1e-3, atol=1e-3)
    result = losses(config, full, output, noised)
    assert result["mse"].max() < 1e-10
    assert result.keys() == {"mse", "loss"}


@pytest.mark.parametrize("space", SPACES)
def test_the_seam_agrees_with_the_tables(space):
    config, clean, noise = IDDPMConfig(prediction=space), normal(0), normal(1)
    full = tables(config)
    noised = add_noise(full, clean, noise, INDEX)
    sigma = full.sigma[INDEX][:, None].expand(-1, 5)
    seam = noised.latents * full.sqrt_recip_alphas_cumprod[INDEX].reshape(-1, 1, 1, 1, 1)
    torch.testing.assert_close(network_latents(seam, sigma), noised.latents, rtol=1e-4, atol=1e-4)
    assert torch.equal(timestep_from_sigma(full, sigma), INDEX[:, None].expand(-1, 5))
    output = torch.cat([perfect(space, full, clean, noise), torch.zeros_like(noise)], dim=1)
    denoised = denoised_from_output(config, output, seam, sigma)
    torch.testing.assert_close(denoised.clean, clean, rtol=1e-3, atol=1e-3)
    assert denoised.variance_fraction is not None
    assert (denoised.variance_fraction == 0.5).all()


@pytest.mark.parametrize("space", SPACES)
def test_a_given_frame_is_its_own_estimate(space):
    latents, sigma = normal(0), torch.tensor([[0.0, 1, 2, 0, 1]] * 3)
    denoised = denoised_from_output(
        IDDPMConfig(prediction=space), normal(1).repeat(1, 2, 1, 1, 1), latents, sigma
    )
    assert torch.equal(denoised.clean[:, :, [0, 3]], latents[:, :, [0, 3]])
    assert not torch.allclose(denoised.clean[:, :, 1], latents[:, :, 1])


@pytest.mark.parametrize("prediction", SPACES)
@pytest.mark.parametrize("loss_space", SPACES)
def test_the_loss_is_the_squared_error_in_its_space(prediction, loss_space):
    """The same wrong estimate costs the same, whichever way the network expressed it."""
    clean, wrong, noise = normal(0), normal(2), normal(1)
    index = torch.tensor([100, 300, 900])
    config = IDDPMConfig(prediction=prediction, loss_space=loss_space, learned_variance=False)
    full = tables(config)
    noised = add_noise(full, clean, noise, index)
    signal = full.sqrt_alphas_cumprod[index].reshape(-1, 1, 1, 1, 1)
    amount = full.sqrt_one_minus_alphas_cumprod[index].reshape(-1, 1, 1, 1, 1)
    wrong_noise = (noised.latents - signal * wrong) / amount
    outputs = {"clean": wrong, "noise": wrong_noise, "velocity": signal * wrong_noise - amount * wrong}
    targets = {"clean": clean, "noise": noise, "velocity": signal * noise - amount * clean}
    expected = (outputs[loss_space] - targets[loss_space]).square().mean(dim=(1, 2, 3, 4))
    got = losses(config, full, outputs[prediction], noised)["mse"]
    torch.testing.assert_close(got, expected, rtol=2e-3, atol=1e-5)


def test_the_loss_weight_can_be_limited():
    config = IDDPMConfig(
        prediction="clean", loss_space="velocity", learned_variance=False, max_loss_weight=5.0
    )
    full = tables(config)
    noised = add_noise(full, normal(0), normal(1), torch.tensor([0, 0, 999]))
    mse = losses(config, full, normal(0) + 1, noised)["mse"]
    torch.testing.assert_close(mse, torch.tensor([5.0, 5.0, 1.0]), rtol=1e-3, atol=0)


def test_given_frames_are_exactly_clean_and_cost_nothing():
    config, clean = IDDPMConfig(), normal(0)
    full, mask = tables(config), torch.tensor([[False, True, True, True, False]] * 3)
    noised = add_noise(full, clean, normal(1), INDEX, mask)
    assert torch.equal(noised.latents[:, :, [0, 4]], clean[:, :, [0, 4]])
    output = normal(3).repeat(1, 2, 1, 1, 1)
    changed = output.clone()
    changed[:, :, [0, 4]] += 10
    assert torch.equal(
        losses(config, full, output, noised)["loss"], losses(config, full, changed, noised)["loss"]
    )


def test_the_bound_does_not_teach_the_prediction():
    config, full = IDDPMConfig(), tables(IDDPMConfig())
    output = normal(3).repeat(1, 2, 1, 1, 1).requires_grad_()
    losses(config, full, output, add_noise(full, normal(0), normal(1), INDEX))["vb"].sum().backward()
    assert not output.grad[:, :4].any()
    assert output.grad[:, 4:].any()


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_respacing_keeps_the_ends_and_the_noise_levels(steps):
    full, spaced = tables(IDDPMConfig()), tables(IDDPMConfig(), steps)
    assert spaced.timestep_map[-1] == 999
    assert steps == 1 or spaced.timestep_map[0] == 0
    torch.testing.assert_close(spaced.sigma, full.sigma[spaced.timestep_map], rtol=1e-3, atol=1e-5)
    found = timestep_from_sigma(full, spaced.sigma[:, None])
    assert torch.equal(found[:, 0], spaced.timestep_map)
    assert all(torch.isfinite(value).all() for value in vars(spaced).values())


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match="sampling steps"):
        tables(IDDPMConfig(), steps)


@pytest.mark.parametrize(
    "change", [{"steps": 1}, {"beta_start": 0.0}, {"beta_end": 1.0}, {"max_loss_weight": 0.0}]
)
def test_nonsense_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        IDDPMConfig(**change)
