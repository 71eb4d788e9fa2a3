"""A model and a prompt as one `Denoise`: preconditioning, conditioning and guidance end here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.denoiser.conditions import Told, VideoShape, joined, null_text, predictor, told, without_text
from kinema.diffusion import processes
from kinema.diffusion.guidance import guide, split_pair
from kinema.diffusion.iddpm import IDDPMConfig, tables
from kinema.diffusion.processes import Schedule
from kinema.diffusion.protocols import Denoise, Denoised, Draw
from kinema.diffusion.samplers import sample_ancestral
from kinema.diffusion.samplers_ode import sample_ddim, sample_dpmpp_2m, sample_euler, sample_heun
from kinema.model import Model

OnStep = Callable[[Float[Tensor, "b c t h w"]], None]
"""Is shown the estimate of the clean latents after every call of the network."""

Sampler = Literal["ancestral", "ddim", "euler", "heun", "dpmpp-2m"]


@dataclass(frozen=True, kw_only=True)
class Given:
    """Clean latents of the frames that are not generated; `denoise_mask` is False (or 0) there.

    A value between 0 and 1 edits the frame: it begins as given, noised to that share of the steps.
    """

    latents: Float[Tensor, "b c t h w"]
    denoise_mask: Bool[Tensor, "b t"] | Float[Tensor, "b t"]


def build_denoise(model: Model, conditioning: Told, *, guidance_scale: float = 1.0) -> Denoise:
    """The model as a function of noised latents and sigma.

    With guidance, one forward pass holds the conditional and the unconditional rows. Text is embedded
    once, not in every step.
    """
    guided, channels = guidance_scale != 1.0, model.conventions.guided_channels
    if guided:
        null = null_text(model.network, model.text_encoder, conditioning.tokens.shape[1])
        conditioning = joined(conditioning, without_text(conditioning, null))
    predict = predictor(model.network, conditioning)

    def denoise(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        if guided:
            latents, sigma = torch.cat([latents, latents]), torch.cat([sigma, sigma])
        scaled, timestep = processes.told(model.process, latents, sigma)
        output = predict(scaled, timestep, _denoise_mask(sigma))
        estimate = processes.denoised(model.process, output, latents, sigma)
        return guide(*split_pair(estimate), guidance_scale, channels) if guided else estimate

    return denoise


def _denoise_mask(sigma: Float[Tensor, "b t"]) -> Bool[Tensor, "b t"] | None:
    noised = sigma > 0
    return None if bool(noised.all()) else noised


def sample_latents(  # noqa: PLR0913 - one argument for each fact of a clip
    model: Model,
    prompt: str | Sequence[str],
    shape: VideoShape,
    *,
    steps: int,
    guidance_scale: float,
    generator: torch.Generator | Sequence[torch.Generator],
    sampler: Sampler | None = None,
    schedule: Schedule = "respaced",
    given: Given | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Latents of a clip for each prompt. Given frames come back exactly as they are.

    A generator for each prompt: what becomes of it does not depend on its neighbours in the batch.
    `sampler` None: the ancestral one for a discrete process, Euler for a flow. `schedule` is for the others.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
    text = model.text_encoder.encode(prompts)
    conditioning = told(model.network, text, shape, conventions=model.conventions).to(model.device)
    denoise = build_denoise(model, conditioning, guidance_scale=guidance_scale)
    draw = _rows(generators, shape.latent_shape(model.autoencoder), model.device)
    noise = draw()
    denoise = denoise if on_step is None else _counted(denoise, on_step)
    mask, clean = (None, None) if given is None else (given.denoise_mask, given.latents)
    sigmas = processes.sampling_sigmas(model.process, steps, schedule, noise[0, 0].numel())
    match sampler or default_sampler(model):
        case "ancestral":
            assert isinstance(model.process, IDDPMConfig)
            spaced = tables(model.process, steps).to(model.device)
            return sample_ancestral(denoise, noise, spaced, draw, denoise_mask=mask, given=clean)
        case "ddim":
            return sample_ddim(denoise, noise, sigmas, denoise_mask=mask, given=clean)
        case "euler":
            return sample_euler(denoise, noise, sigmas, denoise_mask=mask, given=clean)
        case "heun":
            return sample_heun(denoise, noise, sigmas, denoise_mask=mask, given=clean)
        case "dpmpp-2m":
            return sample_dpmpp_2m(denoise, noise, sigmas, denoise_mask=mask, given=clean)


def default_sampler(model: Model) -> Sampler:
    """Ancestral, as published, where the process has its steps; a flow is followed by Euler's method."""
    return "ancestral" if isinstance(model.process, IDDPMConfig) else "euler"


def _rows(generators: Sequence[torch.Generator], shape: Sequence[int], device: torch.device) -> Draw:
    """Standard normal rows, each from its own generator."""

    def draw() -> Float[Tensor, "b c t h w"]:
        rows = [torch.randn(*shape, generator=item, device=item.device) for item in generators]
        return torch.stack(rows).to(device)

    return draw


def _counted(denoise: Denoise, on_step: OnStep) -> Denoise:
    """Show `on_step` the estimate of every call."""

    def counted(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        estimate = denoise(latents, sigma)
        on_step(estimate.clean)
        return estimate

    return counted
