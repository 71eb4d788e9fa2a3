"""The loss of a batch: what is drawn, what is noised, what is compared."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from kinema.conventions import CONVENTIONS, Preset
from kinema.dataset.loader import Batch
from kinema.denoiser.conditions import Told, VideoShape, predictor, told, unconditional
from kinema.denoiser.pictures import Blend
from kinema.diffusion.iddpm import IDDPMConfig, NoisedLatents
from kinema.diffusion.masking import MaskConfig, draw_denoise_mask
from kinema.diffusion.processes import Process, add_noise, draw_index, full_tables, losses, timestep
from kinema.diffusion.published import add_noise_published
from kinema.encoders.protocols import EncodedText, TextEncoder
from kinema.model import Model
from kinema.motion import MotionMap
from kinema.nn import Network
from kinema.nn.precision import Precision, computing
from kinema.train.config import TrainConfig
from kinema.train.pictures import Pictures


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
    # A network of pictures is shown what is given beside the latents, not in their place.
    masks = config.masks if config.task == "text-to-video" else MaskConfig()
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed ^ config.seed)
        noise.append(torch.randn(shape, generator=generator))
        index.append(draw_index(config.process, (shape[1], shape[2], shape[3]), generator))
        mask.append(draw_denoise_mask(masks, shape[1], generator))
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
    precision: Precision = "fp32"
    preset: Preset = "kinema"
    pictures: Pictures | None = None
    motion: MotionMap | None = None

    def __call__(
        self, network: Network, batch: Batch, clean: Float[Tensor, "b c t h w"], draws: Draws
    ) -> dict[str, Float[Tensor, " b"]]:
        """`loss` and its parts. What is made over a blend is wrong by what it is wrong in the latents."""
        output, noised, blend = self.predict(network, batch, clean, draws)
        if blend is not None:
            output, noised = output * blend.counts, noised.times(blend.counts)
        return losses(self.process, output, noised)

    def predict(
        self, network: Network, batch: Batch, clean: Float[Tensor, "b c t h w"], draws: Draws
    ) -> tuple[Tensor, NoisedLatents, Blend | None]:
        """The network's output in float32, what it was shown, and the blend that it was made over."""
        level = timestep(self.process, draws.index, draws.denoise_mask)
        with computing(clean.device.type, self.precision):
            conditioning, blend = self._told(network, batch, clean, draws)
            noised = self._noised(clean if blend is None else blend.missed_in(clean), draws)
            predict = predictor(network, conditioning, once=True)
            output = predict(noised.latents, level, draws.denoise_mask)
        return output.float(), noised, blend

    def _told(self, network: Network, batch: Batch, clean: Tensor, draws: Draws) -> tuple[Told, Blend | None]:
        """What the network is told, and what is taken off the latents, as it is known already."""
        size = batch.bucket.size
        shape = VideoShape(height=size.height, width=size.width, frames=batch.bucket.frames, fps=0.0)
        conventions = CONVENTIONS[self.preset]
        facts = {"fps": batch.fps + conventions.fps_offset, **self._scores(batch)}
        pictured = None if self.pictures is None else self.pictures.of(network, batch, clean)
        if pictured is None:
            text = self.text_encoder.encode(batch.captions) if batch.text is None else batch.text
            conditioning = told(network, text, shape, facts, conventions)
            dropped = draws.caption_dropped
            return unconditional(network, self.text_encoder, conditioning, dropped), None
        beside, left_out = pictured
        text = EncodedText(beside.tokens, beside.tokens.new_ones(beside.tokens.shape[:2]).bool())
        conditioning = told(network, text, shape, facts, conventions, beside=beside)
        conditioning = unconditional(
            network, self.text_encoder, conditioning, left_out.tokens_dropped, left_out.latents_dropped
        )
        return conditioning, beside.blend

    def _scores(self, batch: Batch) -> dict[str, Tensor]:
        """What was measured of the clips, as the network is told it."""
        found = dict[str, Tensor]()
        motion, elevation = (batch.scores.get(name) for name in ("motion_score", "elevation"))
        if self.motion is not None and motion is not None:
            found["motion"] = self.motion.told(motion)
        if elevation is not None and bool(elevation.isfinite().all()):
            found["elevation"] = elevation.deg2rad()
            found["azimuth"] = _azimuth(batch)
        return found

    def _noised(self, clean: Float[Tensor, "b c t h w"], draws: Draws) -> NoisedLatents:
        if CONVENTIONS[self.preset].given_noised and isinstance(self.process, IDDPMConfig):
            full = full_tables(self.process, clean.device)
            return add_noise_published(full, clean, draws.noise, draws.index, draws.denoise_mask)
        return add_noise(self.process, clean, draws.noise, draws.index, draws.denoise_mask)


def _azimuth(batch: Batch) -> Float[Tensor, "b t"]:
    """Radians from each clip's first frame: the whole clip is once around."""
    frame = torch.arange(batch.bucket.frames, device=batch.fps.device)
    turn: Tensor = 2 * torch.pi * frame / (batch.fps * batch.scores["duration_s"])[:, None]
    return turn


def objective_of(model: Model, config: TrainConfig) -> Objective:
    """The loss of a run or stage."""
    pictures = None
    if model.image_encoder is not None:
        pictures = Pictures(model.autoencoder, model.image_encoder, config.pictures, config.seed)
    return Objective(
        model.text_encoder, config.process, config.precision, config.preset, pictures, model.motion
    )
