"""The video UNet beside diffusers' class: training step, sampling and peak memory, in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kinema.bench.figures import Figure, bf16_of, interleaved, report
from kinema.bench.resident import peak_bytes
from kinema.diffusion.edm import EDMConfig, denoiser
from kinema.diffusion.karras import guide_frames, karras_sigmas, linear_guidance
from kinema.diffusion.protocols import Denoised
from kinema.diffusion.samplers_ode import sample_euler
from kinema.nn import build_network
from kinema.nn.video_unet import VideoConditioning, VideoUNet, VideoUNetConfig

Kind = Literal["kinema", "diffusers"]
KINDS: tuple[Kind, ...] = ("kinema", "diffusers")
THREADS = 2
_MEMORY_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured; the default is the size that the figures are about."""

    channels: tuple[int, ...] = (64, 128, 256, 256)
    frames: int = 8
    side: int = 32
    sampling_steps: int = 25

    @property
    def config(self) -> VideoUNetConfig:
        """64 channels a head, two layers, attention at every level but the last."""
        heads = tuple(max(1, width // 64) for width in self.channels)
        attention = (True,) * (len(self.channels) - 1) + (False,)
        return VideoUNetConfig(
            channels=self.channels, heads=heads, attention=attention, group_norm_eps="diffusers"
        )


class Inputs:
    """One clip of latents, as image-to-video training sees it; `tokens` of context."""

    def __init__(self, setting: Setting, tokens: int = 1) -> None:
        generator = torch.Generator().manual_seed(0)
        shape = (1, 8, setting.frames, setting.side, setting.side)
        self.latents = torch.randn(shape, generator=generator)
        self.c_noise = torch.tensor([0.3])
        self.context = torch.randn(1, tokens, setting.config.context_width, generator=generator)
        self.values = torch.tensor([[6.0, 127.0, 0.02]])


def build(kind: Kind, setting: Setting) -> nn.Module:
    """Either network, with random weights."""
    torch.manual_seed(0)
    if kind == "kinema":
        return build_network(setting.config)
    from kinema.convert.svd import diffusers_network

    return diffusers_network(setting.config)


def predict(network: nn.Module, inputs: Inputs, latents: Tensor | None = None) -> Tensor:
    """The output as b c t h w, of either class."""
    latents = inputs.latents if latents is None else latents
    if isinstance(network, VideoUNet):
        conditioning = VideoConditioning(tokens=inputs.context, values=inputs.values)
        output: Tensor = network(latents, inputs.c_noise, conditioning)
        return output
    sample = network(latents.transpose(1, 2), inputs.c_noise, inputs.context, inputs.values).sample
    swapped: Tensor = sample.transpose(1, 2)
    return swapped


def training_step(network: nn.Module, inputs: Inputs, bfloat16: bool) -> Callable[[], None]:
    """Forward and backward of a mean square; gradients are dropped before it, as a trainer does."""
    kind = "kinema" if isinstance(network, VideoUNet) else "diffusers"
    context = bf16_of(kind) if bfloat16 else nullcontext

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with context():
            output = predict(network, inputs)
        (output.float() ** 2).mean().backward()  # type: ignore[no-untyped-call]

    return step


def sampling(network: nn.Module, inputs: Inputs, steps: int) -> Callable[[], None]:
    """Euler steps with guidance that grows over frames: two passes a step, each of one clip."""
    beside = inputs.latents[:, 4:]

    def predict_beside(latents: Tensor, _: Tensor) -> Tensor:
        return predict(network, inputs, torch.cat([latents, beside], dim=1))

    once = denoiser(predict_beside, EDMConfig())
    scale = linear_guidance(inputs.latents.shape[2], 1.0, 2.5)

    def denoise(latents: Tensor, sigma: Tensor) -> Denoised:
        pair = once(latents, sigma).clean, once(latents, sigma).clean
        return Denoised(guide_frames(*pair, scale))

    @torch.inference_mode()
    def sample() -> None:
        sample_euler(denoise, inputs.latents[:, :4], karras_sigmas(steps))

    return sample


def peak_memory(kind: Kind, setting: Setting) -> float:
    """Peak resident megabytes of three training steps in a process of their own."""
    command = [sys.executable, "-m", "kinema.bench.video_unet", kind, json.dumps(asdict(setting))]
    finished = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_MEMORY_TIMEOUT_S)
    return float(json.loads(finished.stdout)["peak_mb"])


def measure_peak(kind: Kind, setting: Setting) -> float:
    """The same, in this process."""
    with threads(THREADS):
        step = training_step(build(kind, setting), Inputs(setting), bfloat16=False)
        for _ in range(3):
            step()
    return peak_bytes() / 1e6


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run(rounds: int = 3, setting: Setting | None = None) -> dict[str, Any]:
    """All figures; both classes take turns in every round. Some minutes on two idle cores."""
    setting = setting or Setting()
    memory = _memory_figure(setting)
    with threads(THREADS):
        figures = [
            *_training_figures(rounds, setting),
            _sampling_figure(max(1, rounds // 3), setting),
            memory,
        ]
        return report("video_unet", figures)


def _training_figures(rounds: int, setting: Setting) -> Iterator[Figure]:
    networks = {kind: build(kind, setting) for kind in KINDS}
    for name, bfloat16, tokens, target in (
        ("training step, fp32", False, 1, 1.4),
        ("training step, bf16 autocast", True, 1, 1.5),
        ("training step, fp32, 77 tokens", False, 77, None),
    ):
        inputs = Inputs(setting, tokens)
        steps: dict[str, Callable[[], object]] = {
            kind: training_step(network, inputs, bfloat16) for kind, network in networks.items()
        }
        yield _rate(name, interleaved(steps, rounds), "steps/s", target)


def _sampling_figure(rounds: int, setting: Setting) -> Figure:
    steps = setting.sampling_steps
    tasks: dict[str, Callable[[], object]] = {
        kind: sampling(build(kind, setting).eval(), Inputs(setting), steps) for kind in KINDS
    }
    return _rate(f"sampling, {steps} steps with guidance", interleaved(tasks, rounds), "clips/s", 1.3)


def _rate(name: str, seconds: dict[str, float], unit: str, target: float | None) -> Figure:
    return Figure(
        name=name,
        value=1 / seconds["kinema"],
        unit=unit,
        peer="diffusers",
        peer_value=1 / seconds["diffusers"],
        target=target,
    )


def _memory_figure(setting: Setting) -> Figure:
    return Figure(
        name="peak memory, fp32 training",
        value=peak_memory("kinema", setting),
        unit="MB",
        peer="diffusers",
        peer_value=peak_memory("diffusers", setting),
        target=0.75,
        better="lower",
    )


if __name__ == "__main__":
    chosen = json.loads(sys.argv[2])
    chosen["channels"] = tuple(chosen["channels"])
    peak = measure_peak("kinema" if sys.argv[1] == "kinema" else "diffusers", Setting(**chosen))
    sys.stdout.write(json.dumps({"peak_mb": peak}))
