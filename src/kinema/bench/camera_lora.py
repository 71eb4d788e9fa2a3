"""Camera LoRAs on a small video UNet: does what is generated move as it was commanded?

A network learns to go on from a photograph with every kind of camera move at once. It makes what differs from
the photograph, not the frames: most of a frame is known, and what stands still differs by nothing. A LoRA in
its temporal attention is then trained on the clips of one label, and the scorer of curation judges what both
generate.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
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
from kinema.diffusion.karras import karras_sigmas
from kinema.diffusion.samplers_ode import sample_euler
from kinema.encoders.embedded import PatchPCA, PatchPCAConfig, fit_patch_pca
from kinema.errors import ConfigError
from kinema.nn import VideoConditioning, VideoUNet, VideoUNetConfig
from kinema.nn.lora import LoRAConfig, attach, detach, new_lora
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

    The network first learns to draw what it sees, at little noise, then to decide where it goes, at more; the
    LoRAs are trained and sampled as the last stage is.
    """

    frames: int = 4
    crops: int = 8
    speeds: tuple[float, float] = (0.1, 0.13)
    components: int = 12
    width: int = 32
    stages: tuple[Stage, ...] = (Stage(2000, 1.0, 1.2), Stage(1100, 2.0, 1.6))
    lora_steps: int = 400
    rate: float = 0.02
    lora_rate: float = 0.06
    batch: int = 8
    samples: int = 20
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
    pixels = _moves(_photos(footage), recipe)
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
    without = _share(model, clips, recipe)
    with_lora = dict[str, float]()
    for command in COMMANDS:
        lora = new_lora(network, LoRAConfig())
        attach(network, [(lora, 1.0)])
        chosen = clips.where(held_out=False, label=command)
        _fit(lora, model, clips.latents[chosen], recipe, _Length(recipe.lora_steps, recipe.lora_rate))
        with_lora[command] = _share(model, clips, recipe)[command]
        detach(network)
    return report("camera_lora", _figures(with_lora, without, clips.right))


def _figures(with_lora: dict[str, float], without: dict[str, float], right: float) -> list[Figure]:
    mean = sum(with_lora.values()) / len(with_lora)
    before = sum(without.values()) / len(without)
    each = [
        Figure(name=f"{command} as commanded", value=share, unit="share", peer="without", peer_value=own)
        for (command, share), own in zip(with_lora.items(), without.values(), strict=True)
    ]
    return [
        Figure(name="as commanded", value=mean, unit="share", target=0.8, bounds="value"),
        Figure(
            name="as commanded without LoRA",
            value=before,
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
    photos: Sequence[UInt8[np.ndarray, "h w 3"]], recipe: Recipe
) -> tuple[UInt8[np.ndarray, "n t h w 3"], list[str], list[bool]]:
    """Clips of every move over random parts of every photograph, the move, and whether it is held out."""
    generator = np.random.default_rng(0)
    found, moves, held_out = [], list[str](), list[bool]()
    for number, photo in enumerate(photos):
        for move in (move for move in _MOVES for _ in range(recipe.crops)):
            speed, seed = float(generator.uniform(*recipe.speeds)), int(generator.integers(2**31))
            part = _part(photo, generator)
            frames, _ = camera_move(part, move, speed, seed=seed, fps=_FPS, seconds=recipe.frames / _FPS)
            found.append(resize_crop(frames, _SIZE))
            moves.append(move)
            held_out.append(number % _HELD_OUT == 0)
    return np.stack(found), moves, held_out


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
def _share(model: _Model, clips: _Clips, recipe: Recipe) -> dict[str, float]:
    """For each command, how many of its samples move like it; each goes on from a held-out photograph."""
    held_out = clips.where(held_out=True)
    found = dict[str, float]()
    for number, command in enumerate(COMMANDS):
        generator = torch.Generator().manual_seed(number)
        chosen = torch.randperm(len(held_out), generator=generator)[: recipe.samples]
        first = clips.latents[[held_out[place] for place in chosen.tolist()], :, 0]
        videos = model.autoencoder.decode(_sampled(model, first, recipe, generator))
        labels = [_label(to_frames(video)) for video in videos]
        found[command] = labels.count(command) / len(labels)
    return found


def _sampled(
    model: _Model,
    first: Float[Tensor, "b c h w"],
    recipe: Recipe,
    generator: torch.Generator,
) -> Float[Tensor, "b c t h w"]:
    shown, process = _shown(first, recipe.frames), model.process
    denoise = edm.denoiser(lambda latents, told: model.network(latents, told, shown), process)
    batch, channels, height, width = first.shape
    noise = torch.randn(batch, channels, recipe.frames, height, width, generator=generator)
    sigmas = karras_sigmas(recipe.sampling_steps, process.sigma_min, process.sigma_max)
    moved = sample_euler(denoise, noise, sigmas)
    return first[:, :, None] + _contrast(first)[:, :, None] * moved
