"""What a step costs one processor: operations, bytes kept, and what the processors send each other.

The model is small on purpose. Operations are counted (`nn.counting`), those of published encoders by
formula; they take their time at one share of the peak rate. Shards are gathered while others are computed, so
that only what lasts longer than the computing is waited for; the exchanges of shared tokens always are.
"""

from __future__ import annotations

from dataclasses import dataclass

from kinema.encoders.clip_text import ClipTextConfig
from kinema.encoders.embedded import PatchPCAConfig
from kinema.encoders.text import T5Config
from kinema.nn import STDiT2Config
from kinema.nn.counting import count_parameters, step_cost
from kinema.shapes import Bucket
from kinema.simulate.devices import Device
from kinema.train.config import TrainConfig
from kinema.train.pace import batch_tokens
from kinema.train.sizes import EncoderSizes

PUBLISHED_SHARE = 0.16
"""Of an H800's peak, network and encoders together: 7.0 samples of 16x256x256 a second and processor, the
figure published with Open-Sora 1.0, are this share. Nothing else is fitted."""

_AUTOENCODER_FLOPS = 4.13e6
"""A pixel through the encoder of Stable Diffusion's autoencoder: its convolutions, counted."""
_TEXT_LAYERS = 24
_T5_LAYER, _CLIP_LAYER = 11.5, 12.0
"""Weights of a layer of T5 v1.1 and of CLIP's text side, in squares of the width."""


@dataclass(frozen=True, kw_only=True)
class RankStep:
    """One rank's part of a step, in seconds where `_s`. `flops` are the network's own, forward and backward;
    `gathered_s` can hide behind `computing_s`, `exchanged_s` cannot."""

    flops: float
    tokens: int
    computing_s: float
    gathered_s: float
    exchanged_s: float

    @property
    def seconds(self) -> float:
        """Of the rank, if it waited for nobody."""
        return max(self.computing_s, self.gathered_s) + self.exchanged_s


@dataclass(frozen=True, kw_only=True)
class CostModel:
    """Of a run on `world` processors that reach `share` of their peak."""

    config: TrainConfig
    sizes: EncoderSizes
    device: Device
    world: int
    share: float = PUBLISHED_SHARE

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be in (0, 1], got {self.share}")

    def step(self, bucket: Bucket, clips: int) -> RankStep:
        """Of so many clips on one rank (or on those that share their tokens)."""
        config, sequence = self.config, self.config.parallel.sequence
        shape = self.sizes.latents(bucket.frames, bucket.size)
        own = step_cost(config.network, shape).flops * clips / sequence
        again = own / 3 if config.gradient_checkpointing else 0.0
        encoding = encoder_flops(config, bucket) * clips
        latents = (self.sizes.latent_channels, shape.frames, shape.height, shape.width)
        tokens = batch_tokens(config.network, latents, clips)
        return RankStep(
            flops=own,
            tokens=tokens,
            computing_s=(own + again + encoding) / (self.device.peak_tflops * 1e12 * self.share),
            gathered_s=self.gathered_bytes / (self.device.rate_gbs(self.shards) * 1e9) + self._replicas_s,
            exchanged_s=self.exchanged_bytes(tokens) / (self.device.rate_gbs(sequence) * 1e9),
        )

    @property
    def shards(self) -> int:
        """Ranks over which a copy of the weights is spread."""
        return self.world // self.config.parallel.replicate

    @property
    def gathered_bytes(self) -> float:
        """That a rank sends in a step for sharded weights: they are gathered forward and backward in each
        part, and the gradients are summed in float32."""
        weights = count_parameters(self.config.network)
        each = 2 if self.config.precision == "bf16" else 4
        times = 2 * self.config.parallel.accumulate
        return weights * (times * each + 4) * (self.shards - 1) / self.shards

    @property
    def _replicas_s(self) -> float:
        """Seconds for summing a shard's gradients over its copies."""
        copies = self.config.parallel.replicate
        sent = count_parameters(self.config.network) / self.shards * 4 * 2 * (copies - 1) / copies
        return sent / (self.device.rate_gbs(self.world) * 1e9)

    def exchanged_bytes(self, tokens: int) -> float:
        """That a rank sends for shared tokens: there and back in each block, forward and backward."""
        sequence, network = self.config.parallel.sequence, self.config.network
        if sequence == 1 or not isinstance(network, STDiT2Config):
            return 0.0
        passes = 3 if self.config.gradient_checkpointing else 2
        each = 2 if self.config.precision == "bf16" else 4
        mine = tokens / sequence * network.hidden * each
        return network.depth * passes * 2 * mine * (sequence - 1) / sequence


def encoder_flops(config: TrainConfig, bucket: Bucket) -> float:
    """Of one clip and its caption; 0 for what comes from a cache, or is small."""
    return _autoencoder_flops(config, bucket) + _text_flops(config)


def _autoencoder_flops(config: TrainConfig, bucket: Bucket) -> float:
    pixels = bucket.frames * bucket.size.area
    match config.autoencoder:
        case _ if config.cache.latents:
            return 0.0
        case PatchPCAConfig(components=components):
            return 2.0 * 3 * components * pixels
        case _:
            return _AUTOENCODER_FLOPS * pixels


def _text_flops(config: TrainConfig) -> float:
    text = config.text_encoder
    match text:
        case _ if config.cache.text or config.task != "text-to-video":
            return 0.0
        case T5Config():
            return 2.0 * _TEXT_LAYERS * _T5_LAYER * text.width**2 * text.max_tokens
        case ClipTextConfig():
            return 2.0 * _TEXT_LAYERS * _CLIP_LAYER * text.width**2 * text.max_tokens
        case _:
            return 0.0
