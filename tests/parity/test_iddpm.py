"""The discrete diffusion against the published implementation's numbers."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from kinema.diffusion import speed
from kinema.diffusion.guidance import guide, split_rows
from kinema.diffusion.iddpm import (
    IDDPMConfig,
    add_noise,
    clean_from_prediction,
    denoised_from_output,
    losses,
    network_latents,
    reverse_step,
    split_output,
    tables,
    timestep_from_sigma,
)
from kinema.diffusion.published import add_noise_published, sample_published, sample_step_published
from kinema.diffusion.samplers import sample_ancestral
from kinema.diffusion.schedules import Tables, linear_betas
from kinema.nn import Conditioning

CONFIG = IDDPMConfig()


def test_tables(read):
    fixture = read("opensora/iddpm_tables")
    names = [name for name, facts in fixture.facts.items() if "num_timesteps" in facts]
    assert names
    for name in names:
        got = tables(CONFIG, fixture.facts[name]["num_timesteps"])
        expected = fixture.under(f"{name}.")
        assert expected.keys() <= {field.name for field in fields(Tables)}
        for key in expected:
            fixture.check(getattr(got, key), f"{name}.{key}")
        assert torch.equal(got.timestep_map, expected["timestep_map"])
        assert got.betas.dtype == expected["betas"].dtype


def test_base_betas(read):
    fixture = read("opensora/iddpm_tables")
    betas = fixture.tensors["base_betas_float64"]
    got = linear_betas(len(betas), CONFIG.beta_start, CONFIG.beta_end)
    assert got.dtype == betas.dtype
    torch.testing.assert_close(got, betas, rtol=1e-14, atol=0)


def test_speed_tables(read):
    fixture = read("opensora/iddpm_tables")
    full = tables(CONFIG)
    fixture.check(speed.probabilities(full), "speed.p")
    fixture.check(speed.step_weights(full), "speed.weights")
    fixture.check(speed.snr(full), "speed.snr")
    assert speed.meaningful_steps(full) == fixture.facts["speed"]["meaningful_steps"]


def loss_variants(fixture):
    names = {key.split(".")[1] for key in fixture.tensors if key.startswith("out.") and key.endswith(".mse")}
    assert names
    return sorted(names)


def test_losses(read):
    fixture = read("opensora/iddpm_losses")
    full, given = tables(CONFIG), fixture.under("in.")
    for name in loss_variants(fixture):
        expected = fixture.under(f"out.{name}.")
        mask = given["mask"] if "masked" in name else None
        weights = speed.step_weights(full) if "speed" in name else None
        noised = (
            add_noise(full, given["x0"], given["noise"], given["t"])
            if mask is None
            else add_noise_published(full, given["x0"], given["noise"], given["t"], mask)
        )
        output = given["model_output"].clone().requires_grad_()
        result = losses(CONFIG, full, output, noised, weights)
        fixture.check(noised.latents, f"out.{name}.x_t")
        assert torch.equal(full.timestep_map[given["t"]], expected["model_ts"])
        for key in ("mse", "vb", "loss"):
            fixture.check(result[key], f"out.{name}.{key}")
        if "grad_model_output" in expected:
            result["loss"].mean().backward()
            fixture.check(output.grad, f"out.{name}.grad_model_output")


def test_given_frames_do_not_change_the_loss(read):
    """Exactly clean given frames, as the program trains, leave the loss of the others as published."""
    fixture = read("opensora/iddpm_losses")
    full, given = tables(CONFIG), fixture.under("in.")
    noised = add_noise(full, given["x0"], given["noise"], given["t"], given["mask"])
    fixture.check(losses(CONFIG, full, given["model_output"], noised)["loss"], "out.masked.loss")


def test_mean_and_variance_of_a_step(read):
    fixture = read("opensora/iddpm_losses")
    given = fixture.under("in.")
    cases = {key.split(".")[1] for key in fixture.tensors if key.startswith("out.pmv_s")}
    for case in sorted(cases):
        spaced, index = tables(CONFIG, int(case.removeprefix("pmv_s"))), given[f"{case}.t"]
        prediction, variance = split_output(CONFIG, given["model_output"])
        estimate = clean_from_prediction(CONFIG, spaced, prediction, given["x0"], index)
        step = reverse_step(spaced, estimate, (variance + 1) / 2, given["x0"], index)
        fixture.check(estimate, f"out.{case}.pred_xstart")
        fixture.check(step.mean, f"out.{case}.mean")
        fixture.check(step.log_variance, f"out.{case}.log_variance")
        fixture.check(step.log_variance.exp(), f"out.{case}.variance")


def test_masked_steps(read):
    fixture = read("opensora/iddpm_p_sample_masked")
    given = fixture.under("in.")
    count = next(int(key.removeprefix("mask_t_for_").removesuffix("_steps")) for key in fixture.facts)
    spaced = tables(CONFIG, count)
    assert (given["mask"] * count).long().tolist() == fixture.facts[f"mask_t_for_{count}_steps"]
    steps = [int(key.split(".")[0][1:]) for key in given if key.endswith(".noise_step")]
    for step in steps:
        seen = {}

        def predict(latents, timestep, mask, seen=seen):
            seen.update(model_x=latents, model_timestep=timestep, x_mask=mask)
            return given["model_output"]

        draws = iter([given[f"t{step}.noise_renoise"], given[f"t{step}.noise_step"]])
        sample = sample_step_published(
            predict, given["x"], spaced, step, given["mask"], lambda draws=draws: next(draws)
        )
        fixture.check(sample, f"out.t{step}.sample")
        fixture.check(seen["model_x"], f"out.t{step}.model_x")
        assert torch.equal(seen["x_mask"], fixture.tensors[f"out.t{step}.x_mask"])
        assert torch.equal(seen["model_timestep"], fixture.tensors[f"out.t{step}.model_timestep"])


@pytest.fixture
def loop(read, build_published):
    fixture = read("opensora/iddpm_sample_loop")
    name = next(iter(fixture.facts.values()))["model"].split()[0]
    return fixture, build_published(read(f"opensora/{name}"))


def conditioning_pair(network, given):
    """Conditional rows, then rows with the null caption and (as published) the prompt's own mask."""
    conditional = Conditioning(
        tokens=given["y"][:, 0],
        token_mask=given["text_mask"].bool() if "text_mask" in given else None,
        height=given["height"],
        width=given["width"],
        aspect_ratio=given["ar"],
        frames=given["num_frames"],
        fps=given["fps"],
    )
    pair = conditional.repeat(2)
    null = network.null_tokens(conditional.tokens.shape[1]).expand_as(conditional.tokens)
    return replace(pair, tokens=torch.cat([conditional.tokens, null]))


def loop_cases(fixture, *, masked):
    return [case for case in fixture.facts if (f"in.{case}.mask" in fixture.tensors) == masked]


@torch.no_grad()
def test_guided_sampling_through_the_seam(loop):
    fixture, network = loop
    full = tables(CONFIG)
    for case in loop_cases(fixture, masked=False):
        facts, given = fixture.facts[case], fixture.under(f"in.{case}.")
        pair = conditioning_pair(network, given)

        def denoise(latents, sigma, pair=pair, facts=facts):
            latents, sigma = latents.repeat(2, 1, 1, 1, 1), sigma.repeat(2, 1)
            output = network(network_latents(latents, sigma), timestep_from_sigma(full, sigma)[:, 0], pair)
            halves = split_rows(denoised_from_output(CONFIG, output, latents, sigma), 2)
            return guide(*halves, facts["cfg_scale"], facts["cfg_channel"])

        draws = iter(given["noises"][:, : len(given["z"])])
        result = sample_ancestral(
            denoise, given["z"], tables(CONFIG, facts["steps"]), lambda draws=draws: next(draws)
        )
        fixture.check_at_scale(result, f"out.{case}")


@torch.no_grad()
def test_guided_masked_sampling_as_published(loop):
    fixture, network = loop
    for case in loop_cases(fixture, masked=True):
        facts, given = fixture.facts[case], fixture.under(f"in.{case}.")
        pair = conditioning_pair(network, given)

        def predict(latents, timestep, mask, pair=pair, facts=facts):
            output = network(latents.repeat(2, 1, 1, 1, 1), timestep.repeat(2), pair, mask.repeat(2, 1))
            conditional, unconditional = output.chunk(2)
            guided = facts["cfg_channel"] or conditional.shape[1] // 2
            moved = torch.lerp(unconditional[:, :guided], conditional[:, :guided], facts["cfg_scale"])
            return torch.cat([moved, conditional[:, guided:]], dim=1)

        draws = iter(given["noises"][:, : len(given["z"])])
        spaced = tables(CONFIG, facts["steps"])
        result = sample_published(predict, given["z"], spaced, given["mask"], lambda draws=draws: next(draws))
        fixture.check_at_scale(result, f"out.{case}")
