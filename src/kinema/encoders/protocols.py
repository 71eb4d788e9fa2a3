"""What the trainer and the generator ask of an encoder, whether embedded or downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from jaxtyping import Bool, Float
from torch import Tensor


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
        """Frames a latent frame."""
        ...

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t2 h2 w2"]:
        """Latents; pixels past the last whole cell, right and bottom, are left out."""
        ...

    def decode(self, latents: Float[Tensor, "b c t2 h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """Video, not clamped."""
        ...


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
