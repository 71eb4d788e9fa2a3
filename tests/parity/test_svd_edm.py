"""Coefficients, schedules, guidance and trajectories against values of the original implementation."""

from __future__ import annotations

import re

import pytest
import torch
from einops import rearrange

from kinema.diffusion.edm import EDMConfig, loss_weight, scales
from kinema.diffusion.karras import (
    guide_frames,
    image_model_sigmas,
    karras_sigmas,
    linear_guidance,
    published_trapezoid_guidance,
    triangle_guidance,
    view_time_guidance,
)
from kinema.diffusion.protocols import Denoised
from kinema.diffusion.samplers_ode import Churn, sample_euler, sample_heun


def check(got, expected, name):
    assert got.shape == expected.shape, name
    scale = expected.abs().clamp(min=1e-30) if expected.ndim == 1 else expected.abs().amax()
    error = ((got - expected).abs() / scale).nan_to_num(0).max().item()
    assert error <= 1e-5, f"{name}: relative error {error:.2e}"


def process(name):
    if name == "vscaling_edmcnoise":
        return EDMConfig()
    if name.startswith("edm_sd"):
        return EDMConfig(prediction="edm", sigma_data=float(name.removeprefix("edm_sd")))
    assert name == "eps", name
    return EDMConfig(prediction="noise", told="sigma")


GUIDANCE = {
    "linear": linear_guidance,
    "triangle": triangle_guidance,
    "trapezoid": published_trapezoid_guidance,
}


def expected_value(key, sigma):
    """Our value of any key of the file."""
    if match := re.fullmatch(r"guidance_(linear|triangle|trapezoid)\.T(\d+)\.([\d.]+)-([\d.]+)", key):
        return GUIDANCE[match[1]](int(match[2]), float(match[3]), float(match[4]))
    if match := re.fullmatch(r"guidance_spatiotemporal\.V(\d+)T(\d+)\.([\d.]+)-([\d.]+)", key):
        return view_time_guidance(int(match[1]), int(match[2]), float(match[3]), float(match[4])).flatten()
    if match := re.fullmatch(r"sigmas_karras_([\d.]+)_([\d.]+)_rho([\d.]+)\.n(\d+)", key):
        return karras_sigmas(int(match[4]), float(match[1]), float(match[2]), float(match[3]))
    if match := re.fullmatch(r"sigmas_legacy_ddpm\.n(\d+)", key):
        return image_model_sigmas(int(match[1]))
    if key == "v_weighting":
        return loss_weight(EDMConfig(), sigma)
    name, coefficient = key.rsplit(".", 1)
    return getattr(scales(process(name), sigma), coefficient)


def test_values(read):
    tensors = read("svd/edm/edm_values").tensors
    assert len(tensors) > 25
    for key, expected in tensors.items():
        if key != "sigma":
            check(expected_value(key, tensors["sigma"]), expected, key)


def clip(frames):
    return rearrange(frames, "t c h w -> 1 c t h w")


def gaussian_denoiser(mu):
    def clean(latents, sigma):
        variance = rearrange(sigma, "b t -> b 1 t 1 1") ** 2
        return (0.25 * latents + variance * mu) / (0.25 + variance)

    return clean


TRAJECTORIES = {
    "euler25_linear": (sample_euler, lambda frames: linear_guidance(frames, 1.0, 2.5), None),
    "euler10_triangle": (sample_euler, lambda frames: triangle_guidance(frames, 1.0, 2.5), None),
    "euler25_identity": (sample_euler, None, None),
    "heun10_identity": (sample_heun, None, None),
    "euler10_churn": (
        sample_euler,
        None,
        Churn(amount=5, sigma_min=0.05, sigma_max=50, noise_scale=1.003),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_trajectories(read, dtype):
    tensors = read("svd/edm/trajectory").tensors
    names = [key.removesuffix(".x") for key in tensors if key.endswith(".x")]
    assert names
    for name in names:
        sampler, guidance, churn = TRAJECTORIES[name]
        expected = tensors[f"{name}.x"]
        conditional = gaussian_denoiser(clip(tensors["mu_cond"]).to(dtype))
        unconditional = gaussian_denoiser(clip(tensors["mu_uncond"]).to(dtype))

        def denoise(latents, sigma, conditional=conditional, unconditional=unconditional, guidance=guidance):
            clean = conditional(latents, sigma)
            if guidance is None:
                return Denoised(clean)
            return Denoised(guide_frames(clean, unconditional(latents, sigma), guidance(latents.shape[2])))

        torch.manual_seed(123)
        seen = []
        sampler(
            denoise,
            clip(tensors["noise"]).to(dtype),
            karras_sigmas(len(expected) - 1),
            churn=churn,
            draw=lambda like=tensors["noise"]: clip(torch.randn_like(like)).to(dtype),
            watch=lambda step, latents, seen=seen: seen.append(latents[0].transpose(0, 1)),
        )
        for step, (got, wanted) in enumerate(zip(seen, expected, strict=True)):
            check(got.float(), wanted, f"{name} step {step}")
