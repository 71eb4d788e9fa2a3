"""The loss of a batch: what is drawn, what is noised, what is compared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.conventions import CONVENTIONS, Preset
from kinema.dataset.loader import Batch
from kinema.denoiser.conditions import Told, VideoShape, null_text, predictor, told, without_text
from kinema.diffusion.iddpm import IDDPMConfig, NoisedLatents
from kinema.diffusion.masking import draw_denoise_mask
from kinema.diffusion.processes import Process, add_noise, draw_index, full_tables, losses, timestep
from kinema.diffusion.published import add_noise_published
from kinema.encoders.protocols import TextEncoder
from kinema.nn import Network
from kinema.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Everything random of a batch. Each row comes from its own sample's seed, so that neither the other
    samples of the batch nor the number of processes change it. `index` is a step, or the time of a flow.
    """

    noise: Float[Tensor, "b c t h w"]
    index: Tensor
    denoise_mask: Bool[Tensor, "b t"]
    caption_dropped: Bool[Tensor, " b"]

    def to(self, device: torch.device | str) -> Draws:
        """Move every tensor."""
        return Draws(
            noise=self.noise.to(device),
            index=self.index.to(device),
            denoise_mask=self.denoise_mask.to(device),
            caption_dropped=self.caption_dropped.to(device),
        )


def draw(seeds: list[int], shape: tuple[int, ...], config: TrainConfig) -> Draws:
    """Noise, steps, masks and dropped captions for latents of `shape` (`c t h w`), one seed a row."""
    noise, index, mask, dropped = [], [], [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed ^ config.seed)
        noise.append(torch.randn(shape, generator=generator))
        index.append(draw_index(config.process, (shape[1], shape[2], shape[3]), generator))
        mask.append(draw_denoise_mask(config.masks, shape[1], generator))
        dropped.append(torch.rand((), generator=generator) < config.network.caption_drop)
    return Draws(
        noise=torch.stack(noise),
        index=torch.stack(index),
        denoise_mask=torch.stack(mask),
        caption_dropped=torch.stack(dropped),
    )


@dataclass(frozen=True)
class Objective:
    """Loss terms per sample, over the frames that are generated. Draws nothing itself."""

    text_encoder: TextEncoder
    process: Process
    precision: Literal["fp32", "bf16"] = "fp32"
    preset: Preset = "kinema"

    def __call__(
        self, network: Network, batch: Batch, clean: Float[Tensor, "b c t h w"], draws: Draws
    ) -> dict[str, Float[Tensor, " b"]]:
        """`loss` and its parts."""
        noised = self._noised(clean, draws)
        level = timestep(self.process, draws.index, draws.denoise_mask)
        with torch.autocast(clean.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            predict = predictor(network, self._told(network, batch, draws), once=True)
            output = predict(noised.latents, level, draws.denoise_mask)
        return losses(self.process, output.float(), noised)

    def _told(self, network: Network, batch: Batch, draws: Draws) -> Told:
        size = batch.bucket.size
        shape = VideoShape(height=size.height, width=size.width, frames=batch.bucket.frames, fps=0.0)
        text = self.text_encoder.encode(batch.captions) if batch.text is None else batch.text
        conditioning = told(network, text, shape, {"fps": batch.fps}, CONVENTIONS[self.preset])
        null = null_text(network, self.text_encoder, text.tokens.shape[1])
        return without_text(conditioning, null, draws.caption_dropped)

    def _noised(self, clean: Float[Tensor, "b c t h w"], draws: Draws) -> NoisedLatents:
        if CONVENTIONS[self.preset].given_noised and isinstance(self.process, IDDPMConfig):
            full = full_tables(self.process, clean.device)
            return add_noise_published(full, clean, draws.noise, draws.index, draws.denoise_mask)
        return add_noise(self.process, clean, draws.noise, draws.index, draws.denoise_mask)
