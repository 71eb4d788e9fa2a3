"""What the trainer and the generator ask of an encoder, whether embedded or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.encoders.grammar import Part, Shot


class EncodedText(NamedTuple):
    """Token embeddings and the mask that is True where a token is real; every row has at least one."""

    tokens: Float[Tensor, "b l d"]
    mask: Bool[Tensor, "b l"]


class Autoencoder(Protocol):
    """Video in [-1, 1] to latents of unit variance, and back."""

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        ...

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent cell, along height and along width."""
        ...

    @property
    def temporal_factor(self) -> int:
        """Frames a latent frame; above 1 the first latent frame holds one, see `latent_frames`."""
        ...

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        """Latents; pixels past the last whole cell, right and bottom, are left out."""
        ...

    def decode(self, latents: Float[Tensor, "b c t2 h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """Video, not clamped."""
        ...


@runtime_checkable
class Variational(Protocol):
    """An autoencoder whose latents are a distribution: training draws from it, `encode` takes its mode."""

    def sample(
        self, video: Float[Tensor, "b 3 t h w"], seeds: Sequence[int]
    ) -> Float[Tensor, "b c t2 h2 w2"]:
        """Latents, drawn with one seed a row."""
        ...


@runtime_checkable
class Distributed(Variational, Protocol):
    """A variational autoencoder that tells the distribution itself, so that it can be kept."""

    def moments(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c2 t2 h2 w2"]:
        """Means and standard deviations, one after the other along the channels."""
        ...

    def draw(
        self, moments: Float[Tensor, "b c2 t2 h2 w2"], seeds: Sequence[int]
    ) -> Float[Tensor, "b c t2 h2 w2"]:
        """What `sample` gives for the video of these moments."""
        ...


def training_latents(
    autoencoder: Autoencoder, video: Float[Tensor, "b 3 t h w"], seeds: Sequence[int]
) -> Float[Tensor, "b c t2 h2 w2"]:
    """Latents to train on: a draw where the autoencoder has a distribution.

    On the CPU each clip is encoded by itself: its latents are then the same to the last bit in any batch.
    """
    if video.device.type == "cpu" and len(video) > 1:
        rows = [training_latents(autoencoder, video[at : at + 1], [seed]) for at, seed in enumerate(seeds)]
        return torch.cat(rows)
    return (
        autoencoder.sample(video, seeds)
        if isinstance(autoencoder, Variational)
        else autoencoder.encode(video)
    )


@runtime_checkable
class Parting(Protocol):
    """A text encoder that can tell the things of a caption apart, its camera, and what moves."""

    def parts(self, caption: str) -> list[Part]:
        """A caption for each thing; the caption as it is where there is one, or none."""
        ...

    def shot(self, caption: str) -> Shot:
        """The caption and what it says of the camera, apart; the caption as it is where it says nothing."""
        ...

    def at_rest(self, caption: str) -> str:
        """The same with everything at rest; the caption as it is where it says of nothing that it moves."""
        ...


class ImageEncoder(Protocol):
    """Pictures to context tokens."""

    @property
    def width(self) -> int:
        """Channels of a token."""
        ...

    def encode(self, pictures: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        """Embed pictures in [-1, 1]."""
        ...


class NoText:
    """The text encoder of a model that takes no text: every word is unknown to it."""

    width, max_tokens = 1, 1

    def encode(self, captions: Sequence[str]) -> EncodedText:
        """One zero a caption."""
        return EncodedText(torch.zeros(len(captions), 1, 1), torch.ones(len(captions), 1, dtype=torch.bool))

    def unknown_words(self, caption: str) -> list[str]:
        """All of them."""
        return caption.split()


class TextEncoder(Protocol):
    """Captions to token embeddings, padded to `max_tokens`."""

    @property
    def width(self) -> int:
        """Channels of a token."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a padded caption; longer captions are cut."""
        ...

    def encode(self, captions: Sequence[str]) -> EncodedText:
        """Embed captions."""
        ...

    def unknown_words(self, caption: str) -> list[str]:
        """Words of the caption that the encoder cannot tell apart from any other unknown word."""
        ...
