"""The same estimate from the training path and from the sampling path."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from kinema.dataset.loader import Batch
from kinema.denoiser.conditions import VideoShape, told
from kinema.denoiser.guided import build_denoise
from kinema.diffusion.processes import denoised, seam_sigma
from kinema.model import Model
from kinema.train.objective import Draws, Objective


@dataclass(frozen=True)
class Parity:
    """Denoised latents of a batch as training and as sampling see them; 0 in the frames that are given."""

    training: Float[Tensor, "b c t h w"]
    sampling: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, " b"]

    @property
    def difference(self) -> float:
        """The largest one, in units of the estimates' root mean square."""
        scale = self.sampling.square().mean().sqrt().clamp(min=1e-12)
        return float((self.training - self.sampling).abs().max() / scale)


@torch.no_grad()
def train_sample_parity(
    model: Model, batch: Batch, clean: Float[Tensor, "b c t h w"], draws: Draws, *, fps: float
) -> Parity:
    """Both paths at the noise of `draws`, whose captions are all kept. `fps` is at what the clips play.

    Training: what `Objective` noises and tells the network, and its output. Sampling: `build_denoise` at the
    same clean + sigma noise, which works out for itself what the network is told. A difference is a fault in
    one of them: the model is then sampled in another way than it was trained.
    """
    if bool(draws.caption_dropped.any()):
        raise ValueError("parity is about a caption; draw without dropping it")
    if model.image_encoder is not None:
        raise ValueError("parity is for networks that are told a caption, not pictures")
    objective = Objective(model.text_encoder, model.process, preset=model.preset)
    output, *_ = objective.predict(model.network, batch, clean, draws)
    sigma = seam_sigma(model.process, draws.index, draws.denoise_mask)
    seam = clean + sigma[:, None, :, None, None] * draws.noise
    trained = denoised(model.process, output, seam, sigma).clean
    size = batch.bucket.size
    shape = VideoShape(height=size.height, width=size.width, frames=batch.bucket.frames, fps=fps)
    conditioning = told(
        model.network, model.text_encoder.encode(batch.captions), shape, conventions=model.conventions
    )
    sampled = build_denoise(model, conditioning.to(model.device))(seam, sigma).clean
    generated = draws.denoise_mask[:, None, :, None, None]
    return Parity(trained * generated, sampled * generated, sigma.amax(1))
