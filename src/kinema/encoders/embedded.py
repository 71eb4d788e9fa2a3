"""Encoders that need no download: a principal-component transform of patches, a word-level text encoder.

Both are made from the dataset itself: the transform is fitted in closed form, the text encoder is trained
along with the network.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from kinema.encoders.grammar import Grammar, Language, Part, Shot
from kinema.encoders.protocols import EncodedText
from kinema.encoders.wording import reword, words
from kinema.nn.products import Linear

PAD, UNKNOWN, START = 0, 1, 2
_RESERVED = 3


@dataclass(frozen=True, kw_only=True)
class PatchPCAConfig:
    """Patches of `patch` by `patch` pixels become `components` numbers.

    `whitening` 1 gives every component unit variance, 0 keeps their natural proportions (a coarse-to-fine
    order in the noise); between, the exponent applies. The mean variance over components is always 1.
    """

    kind: Literal["patch-pca"] = "patch-pca"
    patch: int = 8
    components: int = 24
    whitening: float = 1.0

    def __post_init__(self) -> None:
        if self.patch < 1:
            raise ValueError(f"patch must be at least 1 pixel, got {self.patch}")
        if not 1 <= self.components <= 3 * self.patch**2:
            raise ValueError(
                f"components must be in 1..{3 * self.patch**2} for patch {self.patch}, got {self.components}"
            )
        if not 0 <= self.whitening <= 1:
            raise ValueError(f"whitening must be in [0, 1], got {self.whitening}")


class PatchPCA(nn.Module):
    """A linear autoencoder of single frames: exact inverse on its own components, no training."""

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, config: PatchPCAConfig) -> None:
        super().__init__()
        self.config = config
        pixels = 3 * config.patch**2
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("basis", torch.eye(pixels)[:, : config.components].contiguous())
        self.register_buffer("scale", torch.ones(config.components))

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return self.config.components

    @property
    def spatial_factor(self) -> int:
        """Pixels a latent cell, along each side."""
        return self.config.patch

    @property
    def temporal_factor(self) -> int:
        """Frames a latent frame."""
        return 1

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c t h2 w2"]:
        """Project each patch on the basis and divide by the scale."""
        patches = _patches(video, self.config.patch)
        return rearrange((patches - self.mean) @ self.basis / self.scale, "b t h w c -> b c t h w")

    def decode(self, latents: Float[Tensor, "b c t h2 w2"]) -> Float[Tensor, "b 3 t h w"]:
        """The inverse on the span of the basis."""
        components = rearrange(latents, "b c t h w -> b t h w c") * self.scale
        patches = components @ self.basis.T + self.mean
        side = self.config.patch
        return rearrange(patches, "b t h w (c p q) -> b c t (h p) (w q)", p=side, q=side)


def fit_patch_pca(config: PatchPCAConfig, videos: Iterable[Float[Tensor, "b 3 t h w"]]) -> PatchPCA:
    """Fit on every patch of `videos`, one batch in memory at a time.

    Signs are fixed (the largest entry of each basis vector is positive), so that a fit is repeatable.
    Raises ValueError when there is nothing to fit on.
    """
    pixels = 3 * config.patch**2
    count, total = 0, torch.zeros(pixels, dtype=torch.float64)
    outer = torch.zeros(pixels, pixels, dtype=torch.float64)
    for video in videos:
        patches = rearrange(_patches(video, config.patch), "b t h w c -> (b t h w) c").double().cpu()
        count += len(patches)
        total += patches.sum(0)
        outer += patches.T @ patches
    if count == 0:
        raise ValueError("no frame to fit the patch transform on")
    mean = total / count
    variance, vectors = torch.linalg.eigh(outer / count - torch.outer(mean, mean))
    variance = variance.flip(0)[: config.components].clamp_min(1e-8)
    vectors = vectors.flip(1)[:, : config.components]
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    autoencoder = PatchPCA(config)
    autoencoder.mean.copy_(mean)
    autoencoder.basis.copy_(vectors * signs)
    autoencoder.scale.copy_(_component_scale(variance, config.whitening))
    return autoencoder


def _component_scale(variance: Float[Tensor, " c"], whitening: float) -> Float[Tensor, " c"]:
    scale = variance.sqrt() ** whitening
    return scale * (variance / scale**2).mean().sqrt()


def _patches(video: Float[Tensor, "b 3 t h w"], side: int) -> Float[Tensor, "b t h2 w2 d"]:
    height, width = (length // side * side for length in video.shape[-2:])
    if height == 0 or width == 0:
        raise ValueError(f"frames must be at least {side}x{side} pixels, got {tuple(video.shape[-2:])}")
    whole = video[..., :height, :width]
    return rearrange(whole, "b c t (h p) (w q) -> b t h w (c p q)", p=side, q=side)


@dataclass(frozen=True, kw_only=True)
class WordTextConfig:
    """Word embeddings with positions and `layers` transformer layers over them.

    `phrases` are other words for what the captions say, replaced before anything else: `{"ball": "circle"}`.
    `grammar` tells the things of captions apart, and the camera.
    """

    kind: Literal["words"] = "words"
    width: int = 128
    layers: int = 1
    heads: int = 4
    max_tokens: int = 48
    phrases: Mapping[str, str] = field(default_factory=dict)
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads}), got {self.width}")
        if self.max_tokens < 2:
            raise ValueError(f"max_tokens must be at least 2, got {self.max_tokens}")


def build_vocabulary(captions: Iterable[str], phrases: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Every word of the captions, sorted, with `phrases` in their place."""
    return tuple(sorted({word for caption in captions for word in reword(words(caption), phrases or {})}))


class WordTextEncoder(nn.Module):
    """Trained along with the network; knows the words of its vocabulary only."""

    def __init__(self, config: WordTextConfig, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = tuple(vocabulary)
        self._ids = {word: index + _RESERVED for index, word in enumerate(self.vocabulary)}
        self.embedding = nn.Embedding(len(self.vocabulary) + _RESERVED, config.width)
        self.position = nn.Parameter(torch.empty(config.max_tokens, config.width))
        self.layers = nn.ModuleList(_Layer(config.width, config.heads) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        nn.init.normal_(self.embedding.weight, std=1.0)
        nn.init.normal_(self.position, std=0.5)

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.config.width

    @property
    def max_tokens(self) -> int:
        """Tokens of a padded caption."""
        return self.config.max_tokens

    def forward(self, ids: Int[Tensor, "b l"]) -> EncodedText:
        """Embed token ids; padding is attended by nobody."""
        mask = ids != PAD
        tokens = self.embedding(ids) + self.position
        for layer in self.layers:
            tokens = layer(tokens, mask)
        return EncodedText(self.norm(tokens), mask)

    def encode(self, captions: Sequence[str]) -> EncodedText:
        """Embed captions; the first token is a start mark, so that an empty caption has one token."""
        ids = torch.tensor([self._row(caption) for caption in captions], device=self.position.device)
        encoded: EncodedText = self(ids)
        return encoded

    def with_words(self, new: Iterable[str]) -> WordTextEncoder:
        """One that knows more words: what it knew is as it was, the rows of new words are random."""
        added = sorted(set(new) - set(self.vocabulary))
        grown = WordTextEncoder(self.config, (*self.vocabulary, *added))
        kept = self.state_dict()
        rows = kept.pop("embedding.weight")
        grown.load_state_dict(
            kept | {"embedding.weight": torch.cat([rows, grown.embedding.weight[len(rows) :]])}
        )
        return grown

    def learn(self, language: Language) -> None:
        """Know these other words from now on, besides those it knew, and this grammar."""
        known = {**self.config.phrases, **language.phrases}
        self.config = replace(self.config, phrases=known, grammar=language.grammar or self.config.grammar)

    def parts(self, caption: str) -> list[Part]:
        """A caption for each thing, in words that it was taught; the caption as it is without a grammar."""
        grammar = self.config.grammar
        found = [Part(caption)] if grammar is None else grammar.parts(self._told(caption))
        return [replace(found[0], caption=caption)] if len(found) == 1 else found

    def shot(self, caption: str) -> Shot:
        """A caption and its camera, in words that it was taught; the caption as it is where it has none."""
        if self.config.grammar is None:
            return Shot(caption, caption)
        found = self.config.grammar.shot(self._told(caption))
        return found if found.moves else replace(found, caption=caption)

    def at_rest(self, caption: str) -> str:
        """The caption with everything at rest, in words that it was taught; as it is where nothing moves."""
        grammar, said = self.config.grammar, self._told(caption)
        rest = said if grammar is None else grammar.at_rest(said)
        return caption if rest == said else " ".join(rest)

    def unknown_words(self, caption: str) -> list[str]:
        """Words outside the vocabulary and words past `max_tokens`, in order, each once."""
        spoken = self._told(caption)
        heard = spoken[: self.max_tokens - 1]
        return list(dict.fromkeys(word for word in spoken if word not in self._ids or word not in heard))

    def _told(self, caption: str) -> list[str]:
        return reword(words(caption), self.config.phrases)

    def _row(self, caption: str) -> list[int]:
        ids = [START, *(self._ids.get(word, UNKNOWN) for word in self._told(caption))][: self.max_tokens]
        return ids + [PAD] * (self.max_tokens - len(ids))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = Linear(width, 3 * width), Linear(width, width)
        self.fc1, self.fc2 = Linear(width, 2 * width), Linear(2 * width, width)

    def forward(self, tokens: Float[Tensor, "b l d"], mask: Bool[Tensor, "b l"]) -> Float[Tensor, "b l d"]:
        q, k, v = rearrange(self.qkv(self.norm1(tokens)), "b l (s h d) -> s b h l d", s=3, h=self.heads)
        attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        tokens = tokens + self.proj(rearrange(attended, "b h l d -> b l (h d)"))
        updated: Tensor = tokens + self.fc2(functional.gelu(self.fc1(self.norm2(tokens))))
        return updated
