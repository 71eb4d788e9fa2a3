"""A model and what it is told as one `Denoise`: preconditioning, conditioning and guidance end here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from jaxtyping import Bool, Float
from torch import Tensor

from kinema.denoiser.conditions import Told, joined, predictor, unconditional
from kinema.diffusion import processes
from kinema.diffusion.guidance import Guidance, as_guidance, guide, guided_by, in_first_half, split_rows
from kinema.diffusion.protocols import Denoise, Denoised
from kinema.encoders.protocols import EncodedText, Parting
from kinema.model import Model
from kinema.nn import Network
from kinema.nn.conditioning import each
from kinema.nn.precision import Precision, computing


def build_denoise(
    model: Model,
    conditioning: Told,
    *,
    guidance_scale: float | Guidance = 1.0,
    precision: Precision = "fp32",
    at_rest: Told | None = None,
) -> Denoise:
    """The model as a function of noised latents and sigma.

    With guidance, one forward pass holds the conditional and the unconditional rows, and those of `at_rest`,
    the same with nothing moving, and what they share is computed once. Text is embedded once, not in every
    step.
    """
    guidance = as_guidance(guidance_scale)
    rows, guided, channels = [conditioning], guidance.is_on, model.conventions.guided_channels
    if guided:
        rows.append(unconditional(model.network, model.text_encoder, conditioning))
    if at_rest is not None:
        rows.append(at_rest)
    with computing(model.device.type, precision):
        predict = predictor(model.network, reduce(joined, rows))

    def denoise(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        scaled, timestep = processes.told(model.process, latents, sigma)
        with computing(model.device.type, precision):
            output = predict(scaled, timestep, _denoise_mask(sigma)).to(latents.dtype)
        latents, sigma = each(latents, len(output)), each(sigma, len(output))
        found = split_rows(processes.denoised(model.process, output, latents, sigma), len(rows))
        estimate = found[0]
        if guided:
            scale = guidance.scale if guidance.first is None else guidance.scales(latents.shape[2])
            estimate = guide(estimate, found[1], scale, channels)
        if at_rest is not None:
            moves = found[0].clean - found[-1].clean
            estimate = replace(estimate, clean=estimate.clean + guidance.motion * moves)
        return estimate

    return denoise


def _denoise_mask(sigma: Float[Tensor, "b t"]) -> Bool[Tensor, "b t"] | None:
    noised = sigma > 0
    return None if bool(noised.all()) else noised


def told_at_rest(model: Model, prompts: Sequence[str], guidance: Guidance) -> EncodedText | None:
    """The prompts with everything at rest, where guidance pushes away from that; None where nothing moves.

    Raises `ValueError` where the text encoder cannot tell.
    """
    if not guidance.motion:
        return None
    if not isinstance(model.text_encoder, Parting):
        raise ValueError("guidance towards motion needs a text encoder that can tell what moves")
    rest = [model.text_encoder.at_rest(prompt) for prompt in prompts]
    return None if rest == list(prompts) else model.text_encoder.encode(rest)


def build_guided(  # noqa: PLR0913 - what is told, and how hard it is followed when
    model: Model,
    conditioning: Told,
    at_rest: Told | None,
    sigmas: Float[Tensor, " steps+1"],
    *,
    guidance: Guidance,
    precision: Precision,
) -> Denoise:
    """The model for these steps: pushed by all of the guidance in their first half, by its scale in all."""

    def build(network: Network, at_rest: Told | None) -> Denoise:
        return build_denoise(
            replace(model, network=network),
            conditioning,
            guidance_scale=guidance,
            precision=precision,
            at_rest=at_rest,
        )

    usual = build(model.network, None)
    early = usual if at_rest is None else build(model.network, at_rest)
    if model.without_lora is not None and guidance.lora != 1:
        early = guided_by(early, build(model.without_lora, at_rest), guidance.lora)
    return usual if early is usual else in_first_half(sigmas, early, usual)
