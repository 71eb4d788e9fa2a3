"""ST-DiT-2: training step, sampling step and memory beside the matmul rate, a naive form and a public peer.

Depth 8, width 384, 6 heads, latents 4 x 16 x 32 x 32, 120 text tokens, two threads. Rates are of the
multiplications that the network needs (backward twice forward); computing something again earns nothing.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kinema.bench.figures import Figure, bf16_of, interleaved, report
from kinema.bench.naive_stdit2 import naive_forward, plain_layers
from kinema.bench.resident import peak_bytes
from kinema.nn import Conditioning, STDiT2, STDiT2Config, build_network, cat_conditioning
from kinema.nn.compiling import compile_network
from kinema.nn.products import mm

THREADS = 2
_COMPILER = shutil.which("g++") or shutil.which("clang++")
Task = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Sizes of the network and of its input."""

    depth: int = 8
    width: int = 384
    heads: int = 6
    frames: int = 16
    side: int = 32
    words: int = 120
    caption_channels: int = 4096

    def network(self) -> STDiT2:
        """With random weights, none of them zero."""
        torch.manual_seed(0)
        config = STDiT2Config(
            depth=self.depth,
            hidden=self.width,
            heads=self.heads,
            caption_channels=self.caption_channels,
            max_tokens=self.words,
        )
        network = build_network(config)
        for parameter in network.parameters():
            if parameter.requires_grad and not parameter.any():
                nn.init.normal_(parameter, std=0.02)
        return network

    def inputs(self) -> tuple[Tensor, Tensor, Conditioning]:
        """Latents, timestep and conditioning of one clip."""
        generator = torch.Generator().manual_seed(0)
        latents = torch.randn(1, 4, self.frames, self.side, self.side, generator=generator)
        one = torch.ones(1)
        conditioning = Conditioning(
            tokens=torch.randn(1, self.words, self.caption_channels, generator=generator),
            height=one * 8 * self.side,
            width=one * 8 * self.side,
            aspect_ratio=one,
            frames=one * self.frames,
            fps=one * 24,
        )
        return latents, one * 500, conditioning

    def mask(self) -> Tensor:
        """The first frame given."""
        mask = torch.ones(1, self.frames, dtype=torch.bool)
        mask[:, 0] = False
        return mask

    def products(self) -> list[tuple[int, int, int]]:
        """Rows, inner and columns of a block's linear layers."""
        tokens, d = self.frames * (self.side // 2) ** 2, self.width
        columns = (3 * d, d, 3 * d, d, d, d, 4 * d)
        return [*((tokens, d, n) for n in columns), (tokens, 4 * d, d), (self.words, d, 2 * d)]

    def operations(self) -> float:
        """Floating-point operations of the matrix products of a forward and a backward pass."""
        places = (self.side // 2) ** 2
        linear = sum(2.0 * m * k * n for m, k, n in self.products())
        pairs = self.frames * places * (places + self.frames + self.words)
        text = 2.0 * self.words * self.width * (self.caption_channels + self.width)
        return 3 * (self.depth * (linear + 4.0 * pairs * self.width) + text)


def run(rounds: int = 5, setting: Setting | None = None) -> dict[str, Any]:
    """All figures; what is compared takes turns in every round."""
    setting = setting or Setting()
    with threads(THREADS):
        figures = [
            *training_figures(setting, rounds),
            *sampling_figures(setting, rounds),
            compile_figure(setting),
        ]
        if setting == Setting():
            figures += [*memory_figures(), *(compiled_figures(setting, rounds) if _COMPILER else ())]
    return report("stdit2", figures, () if _COMPILER else ("compiled steps: no C++ compiler is here",))


def training_figures(setting: Setting, rounds: int) -> Iterator[Figure]:
    """Steps with and without given frames, in float32 and bf16."""
    network, inputs, mask = setting.network(), setting.inputs(), setting.mask()
    plain = plain_layers(setting.network())
    tasks, operations = product_tasks(setting)
    forms: dict[str, tuple[nn.Module, Callable[..., Tensor]]] = {
        "kinema": (network, network),
        "naive": (plain, partial(naive_forward, plain)),
    }
    for name, (trained, form) in forms.items():
        tasks[name] = step_task(form, trained, inputs, None)
        tasks[f"{name}, mask"] = step_task(form, trained, inputs, mask)
        tasks[f"{name}, bf16"] = step_task(form, trained, inputs, None, context=bf16_of(name))
    if (latte := latte_task(setting)) is not None:
        tasks["latte"] = latte
    seconds = interleaved(tasks, rounds)
    rate = operations / seconds["matmul"] / 1e9
    needed = setting.operations() / 1e9
    for name, added in (("no mask", ""), ("first frame given", ", mask")):
        yield Figure(
            name=f"training arithmetic, fp32, {name}",
            value=needed / seconds[f"kinema{added}"],
            unit="GFLOP/s",
            peer="PyTorch's matmul rate at the same shapes",
            peer_value=rate,
            target=0.88,
        )
    yield Figure(
        name="matmul rate of kinema.nn.products at the same shapes",
        value=operations / seconds["products"] / 1e9,
        unit="GFLOP/s",
        peer="PyTorch's",
        peer_value=rate,
    )
    for name, added, target in (
        ("fp32, no mask", "", 1.15),
        ("fp32, first frame given", ", mask", 1.3),
        ("bf16 autocast", ", bf16", 1.6),
    ):
        yield _speed(f"training step, {name}", seconds, f"kinema{added}", f"naive{added}", target)
    if latte is not None:
        yield _speed("training step, fp32, beside Latte", seconds, "kinema", "latte", None)


def _speed(name: str, seconds: dict[str, float], own: str, peer: str, target: float | None) -> Figure:
    names = {"latte": "diffusers LatteTransformer3DModel, same width and depth"}
    return Figure(
        name=name,
        value=1 / seconds[own],
        unit="steps/s",
        peer=names.get(peer, "naive form"),
        peer_value=1 / seconds[peer],
        target=target,
    )


def step_task(
    form: Callable[..., Tensor],
    network: nn.Module,
    inputs: tuple[Tensor, Tensor, Conditioning],
    mask: Tensor | None,
    *,
    context: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Task:
    """Forward and backward of a mean square."""

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with context():
            output = form(*inputs, mask)
        output.float().square().mean().backward()  # type: ignore[no-untyped-call]

    return step


def product_tasks(setting: Setting) -> tuple[dict[str, Task], float]:
    """The products of one block alone in float32, forward and for both gradients, and their operations.

    By PyTorch's own product, and by the one that the network's layers take.
    """
    generator = torch.Generator().manual_seed(0)
    cases = [
        tuple(torch.randn(*shape, generator=generator) for shape in ((m, k), (n, k), (m, n)))
        for m, k, n in setting.products()
    ]

    def multiply(product: Callable[[Tensor, Tensor], Tensor]) -> None:
        for values, weight, grad in cases:
            product(values, weight.T)
            product(grad, weight)
            product(grad.T, values)

    tasks: dict[str, Task] = {"matmul": partial(multiply, torch.mm), "products": partial(multiply, mm)}
    return tasks, 3 * sum(2.0 * m * k * n for m, k, n in setting.products())


def latte_task(setting: Setting) -> Task | None:
    """A step of the public peer; it alternates space and time, so twice the layers are the same depth."""
    try:
        from diffusers import LatteTransformer3DModel
    except ImportError:
        return None
    torch.manual_seed(0)
    network: Any = LatteTransformer3DModel(  # type: ignore[no-untyped-call]
        num_attention_heads=setting.heads,
        attention_head_dim=setting.width // setting.heads,
        in_channels=4,
        out_channels=8,
        num_layers=setting.depth,
        cross_attention_dim=setting.width,
        attention_bias=True,
        sample_size=setting.side,
        patch_size=2,
        activation_fn="gelu-approximate",
        num_embeds_ada_norm=1000,
        norm_type="ada_norm_single",
        norm_elementwise_affine=False,
        norm_eps=1e-6,
        caption_channels=setting.caption_channels,
        video_length=setting.frames,
    )
    latents, timestep, conditioning = setting.inputs()

    def form(*_: object) -> Tensor:
        out: Tensor = network(latents, timestep.long(), encoder_hidden_states=conditioning.tokens).sample
        return out

    return step_task(form, network, setting.inputs(), None)


def sampling_figures(setting: Setting, rounds: int, *, compiled: bool = False) -> Iterator[Figure]:
    """One guided step: both halves in one pass, the text embedded beforehand or anew.

    The naive form does the work of both halves from the first layer on. No goal is set for `compiled` blocks.
    """
    network, plain = setting.network().eval(), plain_layers(setting.network().eval())
    if compiled:
        compile_network(network)
    latents, timestep, conditioning = setting.inputs()
    null = conditioning.with_caption(network.null_tokens(setting.words))
    pair = cat_conditioning([conditioning, null])
    doubled = torch.cat([latents, latents]), torch.cat([timestep, timestep])
    masks = (("", None), (", first frame given", setting.mask()))
    for precision, (name, mask) in itertools.product(("fp32", "bf16"), masks):
        lower = precision == "bf16"
        contexts = {form: bf16_of(form) if lower else nullcontext for form in ("kinema", "naive")}
        with torch.inference_mode(), contexts["kinema"]():
            text = network.text_keys_values(pair.tokens)
        forms: dict[str, Task] = {
            "kinema": partial(network, latents, timestep, pair, mask, text=text),
            "naive": partial(
                naive_forward, plain, *doubled, pair, None if mask is None else mask.repeat(2, 1)
            ),
        }
        tasks = {form: partial(_without_gradients, task, contexts[form]) for form, task in forms.items()}
        seconds = interleaved(tasks, rounds)
        yield Figure(
            name=f"guided sampling step, {precision}{name}{', compiled' if compiled else ''}",
            value=seconds["kinema"],
            unit="s",
            peer="naive form in the same precision",
            peer_value=seconds["naive"],
            target=None if compiled else 0.6,
            better="lower",
        )


def _without_gradients(task: Task, computing: Callable[[], AbstractContextManager[None]]) -> object:
    with torch.inference_mode(), computing():
        return task()


def compile_figure(setting: Setting) -> Figure:
    """Graphs that torch.compile makes of two buckets, each seen twice, without a graph break."""
    torch._dynamo.reset()
    counted: list[object] = []

    def count(graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., object]:
        counted.append(graph)
        return graph.forward

    network = setting.network().eval()
    compiled = torch.compile(network, backend=count, fullgraph=True, dynamic=False)
    latents, timestep, conditioning = setting.inputs()
    with torch.no_grad():
        for _ in range(2):
            for frames in (setting.frames, max(1, setting.frames // 2)):
                compiled(latents[:, :, :frames], timestep, conditioning)
    return Figure(
        name="graphs compiled for two buckets, no graph break",
        value=float(len(counted)),
        unit="graphs",
        target=2.0,
        bounds="value",
        better="lower",
    )


def compiled_figures(setting: Setting, rounds: int) -> Iterator[Figure]:
    """The same steps with blocks that torch.compile made faster, beside the naive form as it is."""
    network, plain, inputs = setting.network(), plain_layers(setting.network()), setting.inputs()
    compile_network(network)
    for precision, context in (("fp32", nullcontext), ("bf16", bf16_of("kinema"))):
        tasks = {
            "compiled": step_task(network, network, inputs, None, context=context),
            "naive": step_task(partial(naive_forward, plain), plain, inputs, None, context=context),
        }
        seconds = interleaved(tasks, rounds)
        yield _speed(f"training step, {precision}, compiled", seconds, "compiled", "naive", None)
    yield from sampling_figures(setting, rounds, compiled=True)


def memory_figures() -> Iterator[Figure]:
    """Peak resident memory of training steps, each in a process of its own."""
    for kind, target in (("plain", 2.2), ("checkpointing", 1.2)):
        command = [sys.executable, "-m", "kinema.bench.stdit2", kind]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        yield Figure(
            name=f"peak memory of a training step, fp32, {kind}",
            value=json.loads(output)["peak_gb"],
            unit="GB",
            target=target,
            bounds="value",
            better="lower",
        )


def measure_peak(kind: str, setting: Setting | None = None) -> float:
    """Gigabytes of this process after two steps."""
    setting = setting or Setting()
    with threads(THREADS):
        network = setting.network()
        network.gradient_checkpointing = kind == "checkpointing"
        step = step_task(network, network, setting.inputs(), None)
        for _ in range(2):
            step()
    return peak_bytes() / 1e9


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run with this many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"peak_gb": measure_peak(sys.argv[1])}))
