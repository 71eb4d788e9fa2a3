"""What a network is told besides noised latents, by its type: the one place where networks differ.

Training and sampling both come here, so that they tell a network the same things in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.conventions import CONVENTIONS, Conventions
from kinema.denoiser.pictures import Beside
from kinema.encoders.latent_frames import latent_frames
from kinema.encoders.protocols import Autoencoder, EncodedText, TextEncoder
from kinema.motion import NEUTRAL_MOTION
from kinema.nn import (
    Conditioning,
    Network,
    STDiT2,
    VideoConditioning,
    VideoUNet,
    cat_conditioning,
)
from kinema.nn.conditioning import each

Told = Conditioning | VideoConditioning
Facts = Mapping[str, Float[Tensor, " b"] | Float[Tensor, "b t"]]
"""Numbers by name, of each row or frame: fps, motion, augmentation, elevation, azimuth (in radians)…"""

Predict = Callable[[Tensor, Float[Tensor, "b t"], Bool[Tensor, "b t"] | None], Tensor]
"""`predict(latents, timestep, denoise_mask)`: a network with everything else inside."""


@dataclass(frozen=True, kw_only=True)
class VideoShape:
    """A clip in pixels."""

    height: int
    width: int
    frames: int
    fps: float

    def latent_shape(self, autoencoder: Autoencoder) -> tuple[int, int, int, int]:
        """`c t h w` of the clip's latents."""
        factor = autoencoder.spatial_factor
        frames = latent_frames(self.frames, autoencoder.temporal_factor)
        return autoencoder.latent_channels, frames, self.height // factor, self.width // factor


def told(  # noqa: PLR0913 - what is told comes from as many places
    network: Network,
    text: EncodedText,
    shape: VideoShape,
    facts: Facts | None = None,
    conventions: Conventions = CONVENTIONS["kinema"],
    *,
    beside: Beside | None = None,
) -> Told:
    """Text and the facts of the clip as the network was taught them; what `facts` lacks follows the shape.

    `beside`, of networks that are shown pictures, takes the place of the text.
    """
    facts = facts or {}
    match network:
        case STDiT2():
            return condition(text, shape, facts.get("fps"), conventions)
        case VideoUNet() if beside is None:
            return _video_conditioning(network, text.tokens, shape, facts, conventions)
        case VideoUNet():
            facts = {**facts, "augmentation": beside.augmentation}
            seen = _video_conditioning(network, beside.tokens, shape, facts, conventions)
            return replace(seen, channels=beside.channels)


def condition(
    text: EncodedText,
    shape: VideoShape,
    fps: Float[Tensor, " b"] | None = None,
    conventions: Conventions = CONVENTIONS["kinema"],
) -> Conditioning:
    """Text and the facts of the clip for the transformer.

    `fps` is what it is told row by row; without it, what it was told of clips that play at the shape's.
    """
    ones = torch.ones(len(text.tokens), device=text.tokens.device)
    return Conditioning(
        tokens=text.tokens,
        token_mask=text.mask,
        height=ones * shape.height,
        width=ones * shape.width,
        aspect_ratio=ones * conventions.aspect_ratio(shape.height, shape.width),
        frames=ones * shape.frames,
        fps=ones * conventions.told_fps(shape.fps, shape.frames) if fps is None else fps.to(ones),
    )


def _video_conditioning(
    network: VideoUNet, tokens: Tensor, shape: VideoShape, facts: Facts, conventions: Conventions
) -> VideoConditioning:
    """A single frame is an image: the temporal layers do not touch it."""
    ones = torch.ones(len(tokens), device=tokens.device)
    usual = {"fps": conventions.told_fps(shape.fps, shape.frames), "motion": NEUTRAL_MOTION}
    columns = [
        facts[name].to(ones) if name in facts else ones * usual.get(name, 0.0)
        for name in (condition.name for condition in network.config.conditions)
    ]
    return VideoConditioning(
        tokens=tokens,
        values=_beside_each_other(columns) if columns else ones[:, None][:, :0],
        image_only=ones.bool() if shape.frames == 1 else None,
    )


def _beside_each_other(columns: list[Tensor]) -> Float[Tensor, "b n"] | Float[Tensor, "b t n"]:
    """`b` or `b t` each; per frame as soon as one of them is."""
    frames = max((column.shape[1] for column in columns if column.ndim == 2), default=0)
    if frames:
        columns = [c if c.ndim == 2 else c[:, None].expand(-1, frames) for c in columns]
    return torch.stack(columns, dim=-1)


def unconditional(
    network: Network,
    encoder: TextEncoder,
    conditioning: Told,
    where: Bool[Tensor, " b"] | None = None,
    where_channels: Bool[Tensor, " b"] | None = None,
) -> Told:
    """Without what guidance pushes away from: for all rows, or the text (or tokens of a picture) for those in
    `where` and the picture's latents for those in `where_channels`.

    The transformer has a null text of its own; a video UNet of texts was shown an empty one, one of pictures
    zeros. The frames that interpolation lies between are always shown.
    """
    match network, conditioning:
        case STDiT2(), Conditioning():
            return conditioning.with_caption(network.null_tokens(conditioning.tokens.shape[1]), where)
        case VideoUNet(), VideoConditioning(tokens=tokens, channels=None):
            null = encoder.encode([""]).tokens
            return replace(conditioning, tokens=_replaced(tokens, null.to(tokens), where))
        case VideoUNet(), VideoConditioning(tokens=tokens, channels=channels):
            if network.config.task == "image-to-video" and channels is not None:
                channels = _replaced(channels, torch.zeros_like(channels[:1]), where_channels)
            tokens = _replaced(tokens, torch.zeros_like(tokens[:1]), where)
            return replace(conditioning, tokens=tokens, channels=channels)
        case _:
            raise TypeError(f"{type(conditioning).__name__} is not for a {type(network).__name__}")


def _replaced(values: Tensor, null: Tensor, where: Bool[Tensor, " b"] | None) -> Tensor:
    if where is None:
        return null.expand_as(values)
    return torch.where(where.reshape(-1, *[1] * (values.ndim - 1)), null, values)


def joined(first: Told, second: Told) -> Told:
    """The rows of both in one batch."""
    match first, second:
        case Conditioning(), Conditioning():
            return cat_conditioning([first, second])
        case VideoConditioning(), VideoConditioning():
            return VideoConditioning(
                tokens=torch.cat([first.tokens, second.tokens]),
                values=torch.cat([first.values, second.values]),
                channels=_cat(first.channels, second.channels),
                image_only=_cat(first.image_only, second.image_only),
            )
        case _:
            raise TypeError(f"cannot join {type(first).__name__} and {type(second).__name__}")


def _cat(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        if first is not second:
            raise ValueError("one conditioning has what the other lacks")
        return None
    return torch.cat([first, second])


def predictor(network: Network, conditioning: Told, *, once: bool = False) -> Predict:
    """The network with its conditioning, which may have several times the rows of what it is called with.
    Text is embedded here, where a network can, for all the calls.

    With `once` the network embeds it in its one call: sharded weights are then gathered once, not twice.
    """
    match network, conditioning:
        case STDiT2(), Conditioning():
            text = None if once else network.text_keys_values(conditioning.tokens)

            def predict(latents: Tensor, timestep: Tensor, denoise_mask: Tensor | None) -> Tensor:
                # It knows one time for all noised frames; given ones are marked by the mask.
                return network(latents, timestep.amax(1), conditioning, denoise_mask, text=text)  # type: ignore[no-any-return]

            return predict
        case VideoUNet(), VideoConditioning():
            rows = len(conditioning.tokens)
            return lambda latents, timestep, _: network(
                each(latents, rows), each(timestep, rows), conditioning
            )
        case _:
            raise TypeError(f"{type(conditioning).__name__} is not for a {type(network).__name__}")
