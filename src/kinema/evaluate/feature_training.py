"""Training of the shipped feature network: no labels, only what was done to a clip and which clip it was.

Two views (crops, colours) of one window of footage are damaged in one way. The network is to tell what the
damage was and how strong (blur, noise, blocks, shuffled or frozen frames, flicker, speed), and to find the
other view among those of other windows. So the features see sharpness, grain, motion and content.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from kinema.checkpoint import write_tensors
from kinema.errors import DatasetError, DecodeError
from kinema.evaluate.embedded_features import (
    WIDTHS,
    FeatureNet,
    load_network,
    network_name,
    scales_of,
    square_video,
)
from kinema.evaluate.sampling import Span, find_spans
from kinema.files import writable_folder
from kinema.progress import Progress, Silent
from kinema.shapes import Size
from kinema.video.reader import probe, read_frames

CALIBRATION = 4
"""Windows of a film on which the scales of features are set."""

DAMAGES = ("blur", "noise", "blocks", "shuffle", "freeze", "flicker", "speed", "grey")


@dataclass(frozen=True, kw_only=True)
class FeatureTrainingConfig:
    """`frames` of `crop` x `crop` pixels are cut from footage of `side` pixels at `fps`, at most `most_s`
    seconds of a source."""

    steps: int = 900
    batch_size: int = 12
    frames: int = 8
    crop: int = 80
    side: int = 144
    fps: float = 15.0
    most_s: float = 20.0
    lr: float = 2e-3
    temperature: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size - 1, self.frames - 3) < 1 or not 16 <= self.crop <= self.side:
            raise ValueError(
                f"steps >= 1, batch_size >= 2, frames >= 4 and 16 <= crop <= side are needed, got {self}"
            )


def train_features(
    footage: Sequence[Path], out: Path, config: FeatureTrainingConfig, progress: Progress | None = None
) -> dict[str, Any]:
    """Train on videos and write weights to `out`; the same footage, seed and machine give the same file."""
    progress = progress or Silent()
    writable_folder(out.parent)
    films = load_films(footage, config, progress)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = FeatureNet()
        heads = Heads(WIDTHS[-1])
    loss, accuracy = _train(network, heads, films, config, progress)
    network.eval().scales.copy_(scales_of(network, real_windows(films, config)))
    stored = {
        key: value if value.dtype == torch.int64 else value.half()
        for key, value in network.state_dict().items()
    }
    write_tensors(out, stored, {"format": "pt"})
    return {
        "out": str(out),
        "videos": len(films),
        "frames": sum(len(film) for film in films),
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": loss,
        "views_found": accuracy,
        "name": network_name(load_network(out)),
    }


class Heads(nn.Module):
    """What is thrown away after training: strength of each damage, and a view's direction."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.damage = nn.Linear(width, len(DAMAGES))
        self.view = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 32))


def load_films(
    footage: Sequence[Path], config: FeatureTrainingConfig, progress: Progress
) -> list[UInt8[np.ndarray, "t h w 3"]]:
    """The sources in memory, small; what cannot be read or is too short is left out."""
    spans = [span for place in footage for span in find_spans(place)]
    progress.stage("read footage", len(spans))
    films = []
    for span in spans:
        try:
            film = _film(span, config)
        except DecodeError:
            continue
        finally:
            progress.advance(1, span.name)
        if len(film) >= 2 * config.frames:
            films.append(film)
    if not films:
        raise DatasetError("no footage to learn from: no video could be read that is long enough")
    return films


def _film(span: Span, config: FeatureTrainingConfig) -> UInt8[np.ndarray, "t h w 3"]:
    found = probe(span.path)
    seconds = min(found.duration_s or config.most_s, config.most_s)
    shrink = config.side / min(found.height, found.width)
    size = Size(height=round(found.height * shrink), width=round(found.width * shrink))
    times = [number / config.fps for number in range(math.floor(seconds * config.fps))]
    return read_frames(span.path, times, size=size) if times else np.zeros((0, 1, 1, 3), np.uint8)


def _train(
    network: FeatureNet,
    heads: Heads,
    films: list[UInt8[np.ndarray, "t h w 3"]],
    config: FeatureTrainingConfig,
    progress: Progress,
) -> tuple[float, float]:
    """The last tenth's mean loss and the share of views whose other view was the nearest."""
    generator = np.random.default_rng(config.seed)
    parameters = [*network.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=config.steps)
    progress.stage("train features", config.steps)
    tail: list[tuple[float, float]] = []
    for step in range(config.steps):
        views, strengths = draw_batch(films, config, generator)
        features = network.train().means(views)
        told = functional.smooth_l1_loss(heads.damage(features), strengths.repeat(2, 1))
        found, accuracy = contrast(heads.view(features), config.temperature)
        loss = 4.0 * told + found
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step >= config.steps - 1 - config.steps // 10:
            tail.append((loss.item(), accuracy))
        progress.advance(1, f"loss {loss.item():.3f}")
    mean_loss, mean_accuracy = np.mean(tail, axis=0)
    return float(mean_loss), float(mean_accuracy)


def real_windows(
    films: list[UInt8[np.ndarray, "t h w 3"]], config: FeatureTrainingConfig
) -> Float[Tensor, "n 3 t s s"]:
    """Windows of all films, undamaged, as the features of a video are taken."""
    pace = 2 if min(map(len, films)) >= 2 * config.frames else 1
    windows = [
        film[start : start + pace * config.frames : pace]
        for film in films
        for start in np.linspace(0, len(film) - pace * config.frames, CALIBRATION).astype(int)
    ]
    return torch.cat([square_video(window) for window in windows])


def contrast(views: Float[Tensor, "n d"], temperature: float) -> tuple[Tensor, float]:
    """NT-Xent (Chen 2020): row i and row i + n / 2 are views of one window; and how often are nearest."""
    unit = functional.normalize(views, dim=1)
    alike = unit @ unit.T / temperature
    alike = alike.masked_fill(torch.eye(len(views), dtype=torch.bool), -1e4)
    other = torch.arange(len(views)).roll(len(views) // 2)
    return functional.cross_entropy(alike, other), float((alike.argmax(dim=1) == other).float().mean())


def draw_batch(
    films: list[UInt8[np.ndarray, "t h w 3"]], config: FeatureTrainingConfig, generator: np.random.Generator
) -> tuple[Float[Tensor, "n 3 t s s"], Float[Tensor, "b k"]]:
    """First views of all windows, then second views; and the strength of each damage of each window."""
    firsts, seconds, rows = [], [], []
    for _ in range(config.batch_size):
        film = films[generator.integers(len(films))]
        strengths = draw_strengths(generator)
        pace = 1 + round(2 * strengths[DAMAGES.index("speed")])
        pace = min(pace, (len(film) - 1) // config.frames)
        strengths[DAMAGES.index("speed")] = (pace - 1) / 2
        start = generator.integers(len(film) - pace * config.frames)
        window = film[start : start + pace * config.frames : pace]
        order = damaged_order(strengths, config.frames, generator)
        views = [_view(window, config, generator) for _ in range(2)]
        first, second = (damaged(view[:, order], strengths, generator) for view in views)
        firsts.append(first)
        seconds.append(second)
        rows.append(torch.from_numpy(strengths))
    return torch.stack([*firsts, *seconds]), torch.stack(rows).float()


def draw_strengths(generator: np.random.Generator) -> Float[np.ndarray, " k"]:
    """Each damage is there with a chance of a quarter, from weak to strong."""
    return np.where(generator.random(len(DAMAGES)) < 0.25, generator.random(len(DAMAGES)), 0.0)


def damaged_order(
    strengths: Float[np.ndarray, " k"], frames: int, generator: np.random.Generator
) -> np.ndarray[Any, Any]:
    """Which frame is shown when: some swapped at random, or each held for several."""
    order = np.arange(frames)
    if shuffle := strengths[DAMAGES.index("shuffle")]:
        moved = generator.permutation(frames)[: max(2, round(shuffle * frames))]
        order[moved] = generator.permutation(moved)
    if freeze := strengths[DAMAGES.index("freeze")]:
        held = 2 + round(freeze * (frames - 2))
        order = order[np.arange(frames) // held * held]
    return order


def _view(
    window: UInt8[np.ndarray, "t h w 3"], config: FeatureTrainingConfig, generator: np.random.Generator
) -> Float[Tensor, "3 t s s"]:
    """A random crop of random scale and shape, mirrored and tinted at random, in [-1, 1]."""
    height, width = window.shape[1:3]
    tall, wide = (
        min(round(config.crop * scale), side)
        for scale, side in zip(generator.uniform(0.9, 1.8, 2), (height, width), strict=True)
    )
    top, left = generator.integers(height - tall + 1), generator.integers(width - wide + 1)
    cut = window[:, top : top + tall, left : left + wide]
    cut = cut[:, :, ::-1] if generator.random() < 0.5 else cut
    pixels = torch.from_numpy(np.ascontiguousarray(cut)).permute(0, 3, 1, 2).float() / 127.5 - 1.0
    size = (config.crop, config.crop)
    pixels = functional.interpolate(pixels, size=size, mode="bilinear", antialias=True)
    tint = torch.from_numpy(generator.uniform(-0.15, 0.15, (1, 3, 1, 1))).float()
    return (pixels * float(generator.uniform(0.8, 1.2)) + tint).permute(1, 0, 2, 3)


def damaged(
    view: Float[Tensor, "3 t s s"], strengths: Float[np.ndarray, " k"], generator: np.random.Generator
) -> Float[Tensor, "3 t s s"]:
    """The view with its picture damaged; order and speed are the window's own."""
    strength = dict(zip(DAMAGES, strengths, strict=True))
    if strength["grey"]:
        view = torch.lerp(view, view.mean(dim=0, keepdim=True).expand_as(view), strength["grey"])
    if strength["blur"]:
        view = blurred(view, 0.3 + 2.7 * float(strength["blur"]))
    if strength["blocks"]:
        coarse = functional.avg_pool3d(view, (1, 4, 4))
        coarse = coarse.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
        view = torch.lerp(view, coarse, float(strength["blocks"]))
    if strength["flicker"]:
        steps = generator.normal(size=(1, view.shape[1], 1, 1)) * 0.3 * strength["flicker"]
        view = view + torch.from_numpy(steps).float()
    if strength["noise"]:
        grain = torch.from_numpy(generator.standard_normal(tuple(view.shape), dtype=np.float32))
        view = view + (0.02 + 0.5 * float(strength["noise"]) ** 2) * grain
    return view.clamp(-1, 1)


def blurred(view: Float[Tensor, "3 t h w"], sigma: float) -> Float[Tensor, "3 t h w"]:
    """A Gaussian of `sigma` pixels over space."""
    reach = math.ceil(2.5 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = kernel / kernel.sum()
    frames = functional.pad(view.flatten(0, 1)[:, None], (reach,) * 4, mode="replicate")
    frames = functional.conv2d(frames, kernel.view(1, 1, 1, -1))
    return functional.conv2d(frames, kernel.view(1, 1, -1, 1)).view(view.shape)
