"""Camera LoRAs on a small video UNet: does what is generated move as it was commanded?

A network learns to go on from a photograph with every kind of camera move at once. It makes what differs from
the photograph, not the frames: most of a frame is known, and what stands still differs by nothing. A LoRA in
its temporal attention is then trained on clips of one label, and the scorer of curation judges what is
generated without it, with it, and with it while being pushed away from what is generated without.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kinema.bench.camera_moves import camera_move
from kinema.bench.figures import Figure, report
from kinema.curate.camera import CameraConfig, CameraMotion, camera_motion
from kinema.diffusion import edm
from kinema.diffusion.edm import EDMConfig
from kinema.diffusion.guidance import guided_by, in_first_half
from kinema.diffusion.karras import karras_sigmas
from kinema.diffusion.samplers_ode import sample_euler
from kinema.encoders.embedded import PatchPCA, PatchPCAConfig, fit_patch_pca
from kinema.errors import ConfigError
from kinema.nn import VideoConditioning, VideoUNet, VideoUNetConfig
from kinema.nn.lora import LoRAConfig, attach, new_lora
from kinema.shapes import Size
from kinema.train.optim import MuonConfig, Optimizers, ScheduleConfig
from kinema.video.reader import read_frames
from kinema.video.transforms import resize_crop, to_frames, to_video

FOOTAGE = "KINEMA_FOOTAGE"
COMMANDS: tuple[CameraMotion, ...] = ("pan_left", "zoom_in", "static")
_MOVES: tuple[CameraMotion, ...] = (*COMMANDS, "pan_right", "zoom_out", "tilt_up", "tilt_down")
_SIZE = Size(height=32, width=64)
_SCORED = (160, 80)
_FPS = 8.0
_HELD_OUT = 5
_CONTEXT = 16


@dataclass(frozen=True)
class Stage:
    """A part of the network's training: its steps; ln sigma is drawn around `above` that of the spread."""

    steps: int
    above: float
    std: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How much of everything. The whole takes one to two hours of one core.

    The network first learns to draw what it sees, at little noise, then to decide where it goes, at more; all
    is sampled as the last stage is. `loras` are the trainings of the LoRAs for `COMMANDS`, each on
    `lora_crops` more clips of a photograph: where the camera goes is decided in much noise, that it stands
    still in all of it. `guidance`: see `kinema.diffusion.guidance.guided_by`; in the first half of the steps.
    """

    frames: int = 4
    crops: int = 8
    speeds: tuple[float, float] = (0.1, 0.13)
    components: int = 12
    width: int = 32
    stages: tuple[Stage, ...] = (Stage(1500, 0.7, 1.2), Stage(900, 1.75, 1.6))
    loras: tuple[Stage, ...] = (Stage(300, 3.2, 1.0), Stage(500, 3.2, 1.0), Stage(300, 2.0, 2.0))
    lora_crops: int = 24
    guidance: float = 5.0
    rate: float = 0.02
    lora_rate: float = 0.06
    batch: int = 8
    samples: int = 60
    sampling_steps: int = 8


@dataclass(frozen=True)
class _Clips:
    """Latents, what the scorer calls each clip, and whether its photograph is held out."""

    latents: Float[Tensor, "n c t h w"]
    labels: list[str]
    held_out: list[bool]
    right: float

    def where(self, *, held_out: bool, label: str | None = None) -> list[int]:
        """Places of these clips."""
        return [
            place
            for place, (found, out) in enumerate(zip(self.labels, self.held_out, strict=True))
            if out == held_out and label in (None, found)
        ]


@dataclass(frozen=True, kw_only=True)
class _Obeyed:
    """The share of samples that move as commanded: without the LoRA, with it, and with it and guidance."""

    command: CameraMotion
    without: float
    alone: float
    pushed: float


@dataclass(frozen=True)
class _Length:
    """Steps of a training, and Muon's rate."""

    steps: int
    rate: float


@dataclass(frozen=True)
class _Model:
    """What makes clips: the network, the process on what differs from the first frame, the way to pixels."""

    network: VideoUNet
    process: EDMConfig
    autoencoder: PatchPCA


def run(footage: Path | None = None, recipe: Recipe | None = None) -> dict[str, Any]:
    """The report of `kinema bench camera_lora`. Raises `ConfigError` where there are no photographs."""
    recipe = recipe or Recipe()
    torch.manual_seed(0)
    photos = _photos(footage)
    pixels = _moves(photos, _MOVES, recipe.crops, recipe)
    autoencoder = fit_patch_pca(
        PatchPCAConfig(patch=2, components=recipe.components, whitening=0.5), (to_videos(pixels[0]),)
    )
    clips = _labelled(pixels, autoencoder)
    seen = clips.latents[clips.where(held_out=False)]
    network = VideoUNet(_network(recipe))
    models = [_Model(network, _process(seen, stage), autoencoder) for stage in recipe.stages]
    for model, stage in zip(models, recipe.stages, strict=True):
        _fit(network, model, seen, recipe, _Length(stage.steps, recipe.rate))
    model = models[-1]
    network.requires_grad_(False)
    found = []
    for command, stage in zip(COMMANDS, recipe.loras, strict=True):
        more = _labelled(_moves(photos, (command,), recipe.lora_crops, recipe), autoencoder)
        chosen = [part.latents[part.where(held_out=False, label=command)] for part in (clips, more)]
        adapted = copy.deepcopy(network)
        lora = new_lora(adapted, LoRAConfig())
        attach(adapted, [(lora, 1.0)])
        trained = _Model(adapted, _process(seen, stage), autoencoder)
        _fit(lora, trained, torch.cat(chosen), recipe, _Length(stage.steps, recipe.lora_rate))
        with_lora = replace(model, network=adapted)
        found.append(
            _Obeyed(
                command=command,
                without=_share(model, clips, recipe, command),
                alone=_share(with_lora, clips, recipe, command),
                pushed=_share(with_lora, clips, recipe, command, weaker=network),
            )
        )
    return report("camera_lora", _figures(found, clips.right))


def _figures(found: Sequence[_Obeyed], right: float) -> list[Figure]:
    def mean(shares: Iterable[float]) -> float:
        return sum(shares) / len(found)

    each = [
        Figure(
            name=f"{obeyed.command} as commanded",
            value=obeyed.pushed,
            unit="share",
            peer="without guidance",
            peer_value=obeyed.alone,
        )
        for obeyed in found
    ]
    return [
        Figure(
            name="as commanded",
            value=mean(obeyed.pushed for obeyed in found),
            unit="share",
            target=0.8,
            bounds="value",
            peer="without guidance",
            peer_value=mean(obeyed.alone for obeyed in found),
        ),
        Figure(
            name="as commanded without LoRA",
            value=mean(obeyed.without for obeyed in found),
            unit="share",
            target=0.4,
            bounds="value",
            better="lower",
        ),
        *each,
        Figure(name="clips that the scorer calls what they are", value=right, unit="share"),
    ]


def _photos(given: Path | None) -> list[UInt8[np.ndarray, "h w 3"]]:
    named = given or (Path(os.environ[FOOTAGE]) if os.environ.get(FOOTAGE) else None)
    folder = named and (named / "photos" if (named / "photos").is_dir() else named)
    files = sorted(folder.glob("*.[jp][pn]*g")) if folder and folder.is_dir() else []
    if len(files) < 2 * _HELD_OUT:
        raise ConfigError(
            f"bench camera_lora needs {2 * _HELD_OUT} photographs: set {FOOTAGE} to a folder of them"
        )
    return [read_frames(file, [0.0])[0] for file in files]


def _moves(
    photos: Sequence[UInt8[np.ndarray, "h w 3"]], moves: Sequence[CameraMotion], crops: int, recipe: Recipe
) -> tuple[UInt8[np.ndarray, "n t h w 3"], list[str], list[bool]]:
    """Clips of these moves over random parts of every photograph, the move, and whether it is held out."""
    generator = np.random.default_rng([len(moves), crops])
    found, shown, held_out = [], list[str](), list[bool]()
    for number, photo in enumerate(photos):
        for move in (move for move in moves for _ in range(crops)):
            speed, seed = float(generator.uniform(*recipe.speeds)), int(generator.integers(2**31))
            part = _part(photo, generator)
            frames, _ = camera_move(part, move, speed, seed=seed, fps=_FPS, seconds=recipe.frames / _FPS)
            found.append(resize_crop(frames, _SIZE))
            shown.append(move)
            held_out.append(number % _HELD_OUT == 0)
    return np.stack(found), shown, held_out


def _part(photo: UInt8[np.ndarray, "h w 3"], generator: np.random.Generator) -> UInt8[np.ndarray, "h2 w2 3"]:
    """A random rectangle, small enough that a window of it is quickly drawn."""
    scale = 500 / min(photo.shape[:2])
    small = cv2.resize(photo, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    height, width = (int(side * generator.uniform(0.6, 1)) for side in small.shape[:2])
    top = int(generator.integers(small.shape[0] - height + 1))
    left = int(generator.integers(small.shape[1] - width + 1))
    return np.ascontiguousarray(small[top : top + height, left : left + width])


def to_videos(pixels: UInt8[np.ndarray, "n t h w 3"]) -> Float[Tensor, "n c t h w"]:
    """Every clip as the autoencoder takes it."""
    return torch.stack([to_video(frames) for frames in pixels])


def _labelled(
    pixels: tuple[UInt8[np.ndarray, "n t h w 3"], list[str], list[bool]], autoencoder: PatchPCA
) -> _Clips:
    frames, moves, held_out = pixels
    labels = [_label(clip) for clip in frames]
    latents = torch.cat([autoencoder.encode(part) for part in torch.split(to_videos(frames), 64)])
    right = sum(label == move for label, move in zip(labels, moves, strict=True)) / len(moves)
    return _Clips(latents, labels, held_out, right)


def _label(frames: UInt8[np.ndarray, "t h w 3"]) -> str:
    """What curation calls it, at the size that its scorer works on."""
    grey = [
        cv2.cvtColor(cv2.resize(frame, _SCORED, interpolation=cv2.INTER_CUBIC), cv2.COLOR_RGB2GRAY)
        for frame in frames
    ]
    return camera_motion(np.stack(grey), np.arange(len(grey)) / _FPS, CameraConfig()).motion


def _network(recipe: Recipe) -> VideoUNetConfig:
    """Two levels; each frame is shown the first one, and where its places are, beside its noised latents."""
    return VideoUNetConfig(
        in_channels=2 * recipe.components + 2,
        out_channels=recipe.components,
        channels=(recipe.width, 2 * recipe.width),
        layers=1,
        heads=(recipe.width // 32, recipe.width // 16),
        attention=(True, True),
        context_width=_CONTEXT,
        conditions=(),
    )


def _shown(first: Float[Tensor, "b c h w"], frames: int) -> VideoConditioning:
    """The frame beside the noised ones, without its mean colour and at contrast 1; column and row, -1 to 1.

    A zoom goes another way at every place, which attention along time alone could not tell.
    """
    apart = (first - first.mean((2, 3), keepdim=True)) / _contrast(first)
    sides = [torch.linspace(-1, 1, side) for side in first.shape[2:]]
    places = torch.stack(torch.meshgrid(*sides, indexing="ij"))[None].flip(1)
    shown = torch.cat([apart, places.expand(len(first), -1, -1, -1)], dim=1)
    return VideoConditioning(
        tokens=first.new_zeros(len(first), 1, _CONTEXT),
        values=first.new_zeros(len(first), 0),
        channels=shown[:, :, None].expand(-1, -1, frames, -1, -1),
    )


def _process(latents: Float[Tensor, "n c t h w"], stage: Stage) -> EDMConfig:
    """Sized by what differs from the first frame; sampling starts at no more noise than training shows."""
    spread = float(_moved(latents)[:, :, 1:].square().mean().sqrt())
    middle = math.log(spread) + stage.above
    return EDMConfig(
        prediction="edm",
        sigma_data=spread,
        p_mean=middle,
        p_std=stage.std,
        sigma_min=0.05 * spread,
        sigma_max=math.exp(middle + 2 * stage.std),
    )


def _moved(latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b c t h w"]:
    """What differs from the first frame, as a share of that frame's contrast."""
    first = latents[:, :, 0]
    return (latents - first[:, :, None]) / _contrast(first)[:, :, None]


def _contrast(first: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 1 1 1"]:
    """How far the frame's places are from its mean, at least 0.01: what a move changes grows with it."""
    apart = first - first.mean((2, 3), keepdim=True)
    return apart.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=0.01)


def _fit(
    trained: nn.Module, model: _Model, latents: Float[Tensor, "n c t h w"], recipe: Recipe, length: _Length
) -> None:
    """Train the parameters of `trained`, which may be the network or an addition to it."""
    generator = torch.Generator().manual_seed(0)
    optimizers = Optimizers(MuonConfig(lr=length.rate), nn.ModuleDict({"trained": trained}))
    schedule = ScheduleConfig(warmup_steps=min(20, length.steps), shape="cosine")
    process, frames, area = model.process, recipe.frames, latents[0, 0, 0].numel()
    for step in range(length.steps):
        chosen = latents[torch.randint(len(latents), (recipe.batch,), generator=generator)]
        clean = _moved(chosen)
        noise = torch.randn(clean.shape, generator=generator)
        sigma = torch.stack([edm.draw_sigma(process, area, generator) for _ in clean])
        noised = edm.add_noise(process, clean, noise, sigma)
        told = edm.told(process, sigma[:, None].expand(-1, frames))
        output = model.network(noised.latents, told, _shown(chosen[:, :, 0], frames))
        edm.losses(process, output, noised)["loss"].mean().backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
        optimizers.step(schedule.factor(step, length.steps))


@torch.no_grad()
def _share(
    model: _Model, clips: _Clips, recipe: Recipe, command: CameraMotion, weaker: VideoUNet | None = None
) -> float:
    """How many samples move as commanded; each goes on from a held-out photograph, always the same ones."""
    held_out = clips.where(held_out=True)
    generator = torch.Generator().manual_seed(COMMANDS.index(command))
    chosen = torch.randperm(len(held_out), generator=generator)[: recipe.samples]
    first = clips.latents[[held_out[place] for place in chosen.tolist()], :, 0]
    videos = model.autoencoder.decode(_sampled(model, weaker, first, recipe, generator))
    labels = [_label(to_frames(video)) for video in videos]
    return labels.count(command) / len(labels)


def _sampled(
    model: _Model,
    weaker: VideoUNet | None,
    first: Float[Tensor, "b c h w"],
    recipe: Recipe,
    generator: torch.Generator,
) -> Float[Tensor, "b c t h w"]:
    shown, process = _shown(first, recipe.frames), model.process
    sigmas = karras_sigmas(recipe.sampling_steps, process.sigma_min, process.sigma_max)
    denoise = edm.denoiser(lambda latents, told: model.network(latents, told, shown), process)
    if weaker is not None:
        without = edm.denoiser(lambda latents, told: weaker(latents, told, shown), process)
        denoise = in_first_half(sigmas, guided_by(denoise, without, recipe.guidance), denoise)
    batch, channels, height, width = first.shape
    noise = torch.randn(batch, channels, recipe.frames, height, width, generator=generator)
    moved = sample_euler(denoise, noise, sigmas)
    return first[:, :, None] + _contrast(first)[:, :, None] * moved
