"""Latents of clips: a model, prompts and noise to what the samplers are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.denoiser.conditions import Facts, Told, VideoShape, told
from kinema.denoiser.guided import build_guided, told_at_rest
from kinema.denoiser.parts import Parts, denoise_together, lay_together, middle, split_prompts, widened
from kinema.denoiser.pictures import Beside
from kinema.diffusion import processes
from kinema.diffusion.guidance import Guidance, as_guidance
from kinema.diffusion.iddpm import IDDPMConfig, tables
from kinema.diffusion.processes import Process, Schedule
from kinema.diffusion.protocols import Denoise, Denoised, Draw
from kinema.diffusion.samplers import sample_ancestral
from kinema.diffusion.samplers_ode import sample_ddim, sample_dpmpp_2m, sample_euler, sample_heun
from kinema.encoders.protocols import EncodedText
from kinema.errors import ConfigError
from kinema.model import Model
from kinema.nn.precision import Precision

OnStep = Callable[[Float[Tensor, "b c t h w"]], None]
"""Is shown the estimate of the clean latents after every call of the network."""

Sampler = Literal["ancestral", "ddim", "euler", "heun", "dpmpp-2m"]


@dataclass(frozen=True, kw_only=True)
class Given:
    """Clean latents of the frames that are not generated; `denoise_mask` is False (or 0) there.

    A value between 0 and 1 edits the frame: it begins as given, noised to that share of the steps.
    `pictures`: the pixels of the given frames from -1 to 1, where each frame has latents of its own.
    """

    latents: Float[Tensor, "b c t h w"]
    denoise_mask: Bool[Tensor, "b t"] | Float[Tensor, "b t"]
    pictures: Float[Tensor, "b 3 t h2 w2"] | None = None


def sample_latents(  # noqa: PLR0913 - one argument for each fact of a clip
    model: Model,
    prompt: str | Sequence[str],
    shape: VideoShape,
    *,
    steps: int,
    guidance_scale: float | Guidance,
    generator: torch.Generator | Sequence[torch.Generator],
    sampler: Sampler | None = None,
    schedule: Schedule = "respaced",
    precision: Precision = "fp32",
    given: Given | None = None,
    beside: Beside | None = None,
    facts: Facts | None = None,
    noise: Float[Tensor, "b c t h w"] | None = None,
    parts_apart: float = 0.0,
    begun: VideoShape | None = None,
    on_step: OnStep | None = None,
) -> Float[Tensor, "b c t h w"]:
    """Latents of a clip for each prompt. Given frames come back exactly as they are.

    A generator for each prompt: what becomes of it does not depend on its neighbours in the batch.
    `sampler` None: the ancestral one for a discrete process, Euler for the others. `schedule` is for those.
    `beside` is what a network of pictures is shown, `facts` what it is told of each row; `noise` is where the
    latents begin, drawn when left out. `parts_apart`: in which share of the steps the parts of a prompt, if
    its encoder can tell them, are denoised each by itself (kinema.denoiser.parts); for prompts alone. Those
    steps may be taken in a smaller shape, `begun`, which becomes the middle of the other.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    guidance = as_guidance(guidance_scale)
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
    alone = parts_apart > 0 and given is None and beside is None and noise is None
    parts = split_prompts(model.text_encoder, prompts, singles=begun is not None) if alone else None
    if parts is not None:
        prompts, generators = parts.captions, [generators[prompt] for prompt in parts.prompt]
        facts = {name: fact[list(parts.prompt)] for name, fact in (facts or {}).items()}
    text, at_rest = model.text_encoder.encode(prompts), told_at_rest(model, prompts, guidance)

    draw = _rows(generators, shape.latent_shape(model.autoencoder), model.device)
    noise = draw() if noise is None else noise.to(model.device)
    smaller = begun if parts is not None else None
    first = noise if smaller is None else middle(noise, smaller.latent_shape(model.autoencoder))
    sigmas = processes.sampling_sigmas(model.process, steps, schedule, first[0, 0].numel())

    def denoised(size: VideoShape) -> Denoise:
        def tell(text: EncodedText) -> Told:
            return told(model.network, text, size, facts, model.conventions, beside=beside).to(model.device)

        rest = None if at_rest is None else tell(at_rest)
        return build_guided(model, tell(text), rest, sigmas, guidance=guidance, precision=precision)

    run = _Run(denoised(shape), noise, sigmas, draw, given, on_step)
    sampler = sampler or default_sampler(model)
    if parts is not None:
        early = run if smaller is None else replace(run, denoise=denoised(smaller), noise=first)
        return _in_parts(early, run, model.process, sampler, parts, parts_apart)
    latents = _sampled(run, model.process, sampler, steps)
    return latents if beside is None or beside.blend is None else beside.blend.with_missed(latents)


@dataclass(frozen=True)
class _Run:
    """What every sampler is given."""

    denoise: Denoise
    noise: Float[Tensor, "b c t h w"]
    sigmas: Float[Tensor, " steps+1"]
    draw: Draw
    given: Given | None
    on_step: OnStep | None = None


def _in_parts(  # noqa: PLR0913, PLR0917 - two runs, and how they are joined
    begun: _Run, run: _Run, process: Process, sampler: Sampler, parts: Parts, apart: float
) -> Float[Tensor, "b c t h w"]:
    """Every part by itself for the first steps, then all of a prompt's in one clip, which may be larger."""
    steps = len(run.sigmas) - 1
    if sampler == "ancestral" or steps < 2:
        raise ConfigError(
            "parts of a prompt need 2 steps or more of euler, heun, ddim or dpmpp-2m; or set parts_apart to 0"
        )
    steps_apart, on_step = min(max(1, round(apart * steps)), steps - 1), run.on_step
    firsts, estimates = [parts.rows(prompt)[0] for prompt in range(parts.prompts)], list[Tensor]()

    def watched(clean: Float[Tensor, "b c t h w"]) -> None:
        estimates[:] = [clean]
        if on_step is not None:
            on_step(clean[firsts])

    early = replace(begun, sigmas=run.sigmas[: steps_apart + 1], on_step=watched)
    latents = _sampled(early, process, sampler, steps_apart)
    laid = lay_together(parts, latents, estimates[0])
    sigma = run.sigmas[steps_apart].to(laid.latents)
    if begun.noise.shape != run.noise.shape:
        laid = widened(laid, parts, estimates[0], sigma * run.noise[firsts])
    start = laid.latents / (1 + sigma**2) ** 0.5
    together = denoise_together(run.denoise, parts, laid.shares)
    late = replace(run, denoise=together, noise=start, sigmas=run.sigmas[steps_apart:])
    return _sampled(late, process, sampler, steps - steps_apart)


def _sampled(run: _Run, process: Process, sampler: Sampler, steps: int) -> Float[Tensor, "b c t h w"]:
    denoise = run.denoise if run.on_step is None else _counted(run.denoise, run.on_step)
    noise, sigmas = run.noise, run.sigmas
    mask, clean = (None, None) if run.given is None else (run.given.denoise_mask, run.given.latents)
    match sampler:
        case "ancestral":
            assert isinstance(process, IDDPMConfig)
            spaced = tables(process, steps).to(noise.device)
            return sample_ancestral(denoise, noise, spaced, run.draw, denoise_mask=mask, given=clean)
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
