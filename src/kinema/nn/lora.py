"""Low-rank additions to linear layers (LoRA, Hu et al. 2021): y = W x + weight * alpha / rank * B A x.

The additions are a module of their own and no part of the network: its parameters and keys stay what they
are, and what trains, is averaged and is written is the additions alone.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kinema.nn.products import Linear

Net = TypeVar("Net", bound=nn.Module)
Target = Literal["temporal-attention", "attention", "linear"]

_ATTENTION = r"to_q|to_k|to_v|to_out\.0|qkv|proj|q_linear|kv_linear"
_PATTERNS: Mapping[Target, str] = {
    "temporal-attention": rf"(.*\.)?(temporal_transformer_blocks\.\d+\.attn[12]|attn_temp)\.({_ATTENTION})",
    "attention": rf"(.*\.)?(attn[12]?|attn_temp|cross_attn)\.({_ATTENTION})",
    "linear": r".*",
}


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Which linear layers get an addition, and of which rank. `alpha` None is `rank`: a scale of 1.

    target: "temporal-attention" (queries, keys, values and outputs of all attention along time), "attention",
    or "linear" (every linear layer). `pattern`, a regular expression for whole layer names, replaces it.
    """

    rank: int = 16
    alpha: float | None = None
    target: Target = "temporal-attention"
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if self.alpha is not None and self.alpha <= 0:
            raise ValueError(f"alpha must be above 0, got {self.alpha}")
        try:
            re.compile(self.layer_pattern)
        except re.error as error:
            raise ValueError(f"pattern {self.pattern!r} is no regular expression: {error}") from error

    @property
    def layer_pattern(self) -> str:
        """What the whole name of a layer must match."""
        return _PATTERNS[self.target] if self.pattern is None else self.pattern


@dataclass(frozen=True, kw_only=True)
class Addition:
    """One layer's: inputs, outputs, rank and alpha."""

    inputs: int
    outputs: int
    rank: int
    alpha: float

    @property
    def scale(self) -> float:
        """What B A is multiplied with."""
        return self.alpha / self.rank


class LowRank(nn.Module):
    """`lora_A` (rank x inputs) and `lora_B` (outputs x rank, zero at first)."""

    def __init__(self, shape: Addition) -> None:
        super().__init__()
        self.lora_A = Linear(shape.inputs, shape.rank, bias=False)
        self.lora_B = Linear(shape.rank, shape.outputs, bias=False)
        nn.init.zeros_(self.lora_B.weight)


class LoRA(nn.Module):
    """Additions by layer name; the keys are `<layer>.lora_A.weight` and `<layer>.lora_B.weight`."""

    def __init__(self, additions: Mapping[str, Addition]) -> None:
        super().__init__()
        self.additions = dict(additions)
        for name, shape in self.additions.items():
            _plant(self, name, LowRank(shape))

    def layer(self, name: str) -> LowRank:
        """The addition to one layer."""
        found = self.get_submodule(name)
        assert isinstance(found, LowRank)
        return found

    def delta(self, name: str) -> Float[Tensor, "outputs inputs"]:
        """alpha / rank * B A: what a layer's weight becomes larger by."""
        part = self.layer(name)
        return self.additions[name].scale * (part.lora_B.weight @ part.lora_A.weight)


def new_lora(network: nn.Module, config: LoRAConfig) -> LoRA:
    """Additions for the layers of `network` that the config chooses; they change nothing yet.

    A is drawn from torch's global generator. Raises `ValueError` when no layer is chosen.
    """
    alpha = float(config.rank) if config.alpha is None else config.alpha
    layers = chosen_layers(network, config)
    return LoRA(
        {
            name: Addition(
                inputs=layer.in_features, outputs=layer.out_features, rank=config.rank, alpha=alpha
            )
            for name, layer in layers.items()
        }
    )


def chosen_layers(network: nn.Module, config: LoRAConfig) -> dict[str, nn.Linear]:
    """The linear layers whose names match, in the network's order."""
    pattern = re.compile(config.layer_pattern)
    linear = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    found = {name: part for name, part in linear.items() if pattern.fullmatch(name)}
    if not found:
        example = next(iter(linear), "none at all")
        raise ValueError(
            f"no linear layer of this network is called {config.layer_pattern!r}; the first is {example!r}"
        )
    return found


class AdaptedLinear(Linear):
    """A linear layer with additions; its own keys and parameters are those of a plain one."""

    parts: list[tuple[LowRank, float]]
    plain: type[nn.Linear]

    def forward(self, input: Tensor) -> Tensor:
        output = super().forward(input)
        for part, scale in self.parts:
            inner = part.lora_A(input.to(part.lora_A.weight.dtype))
            output = output + (scale * part.lora_B(inner)).to(output.dtype)
        return output


def attach(network: nn.Module, loras: Sequence[tuple[LoRA, float]]) -> None:
    """From now on the network computes with all these additions, each times its weight, and no others.

    The additions stay the tensors they are: they can train. Raises `ValueError` for what does not fit.
    """
    for lora, _ in loras:
        check_fits(lora, network)
    detach(network)
    for lora, weight in loras:
        for name, shape in lora.additions.items():
            layer = network.get_submodule(name)
            if not isinstance(layer, AdaptedLinear):
                # In place, so that whoever holds the layer holds the adapted one.
                object.__setattr__(layer, "plain", type(layer))
                object.__setattr__(layer, "parts", [])
                layer.__class__ = AdaptedLinear
            assert isinstance(layer, AdaptedLinear)
            layer.parts.append((lora.layer(name), weight * shape.scale))


def detach(network: nn.Module) -> None:
    """The network as it was before `attach`."""
    for layer in network.modules():
        if isinstance(layer, AdaptedLinear):
            layer.__class__ = layer.plain  # type: ignore[assignment]
            del layer.__dict__["parts"], layer.__dict__["plain"]


@torch.no_grad()
def merge(network: nn.Module, loras: Sequence[tuple[LoRA, float]]) -> dict[str, Tensor]:
    """Add to the weights themselves; nothing is then slower. Returns the old weights for `unmerge`."""
    for lora, _ in loras:
        check_fits(lora, network)
    before: dict[str, Tensor] = {}
    for lora, weight in loras:
        for name in lora.additions:
            layer = network.get_submodule(name)
            assert isinstance(layer, nn.Linear)
            before.setdefault(name, layer.weight.detach().clone())
            delta = (weight * lora.delta(name)).to(layer.weight.device)
            layer.weight.copy_(layer.weight.to(delta.dtype) + delta)
    return before


@torch.no_grad()
def unmerge(network: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Put back, bit for bit, what `merge` replaced."""
    for name, weight in before.items():
        layer = network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        layer.weight.copy_(weight)


def learning(module: nn.Module) -> list[nn.Parameter]:
    """What trains in a module: parameters of its own, and of additions to its layers."""
    layers = [part for part in module.modules() if isinstance(part, AdaptedLinear)]
    added = [weight for layer in layers for part, _ in layer.parts for weight in part.parameters()]
    return [weight for weight in [*module.parameters(), *added] if weight.requires_grad]


def check_fits(lora: LoRA, network: nn.Module) -> None:
    """Raise `ValueError` for the first layer that the network lacks or has in another shape."""
    layers = {name: part for name, part in network.named_modules() if isinstance(part, nn.Linear)}
    for name, shape in lora.additions.items():
        if name not in layers:
            raise ValueError(f"the LoRA has {name}, which is no linear layer of this network")
        own = (layers[name].out_features, layers[name].in_features)
        if own != (shape.outputs, shape.inputs):
            raise ValueError(
                f"the LoRA's {name} is for a layer of shape {[shape.outputs, shape.inputs]}, "
                f"this network's has {list(own)}"
            )


def _plant(root: nn.Module, name: str, part: nn.Module) -> None:
    """Put a module at a dotted name, making what is above it."""
    *above, last = name.split(".")
    for step in above:
        if step not in root._modules:
            root.add_module(step, nn.Module())
        root = root.get_submodule(step)
    root.add_module(last, part)


def unmerged_copy(network: Net, before: Mapping[str, Tensor]) -> Net:
    """The network as it was before `merge`, beside the merged one.

    It takes the room of the replaced weights alone: all others are one tensor for both.
    """
    merged = {id(network.get_submodule(name).weight) for name in before}
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    apart = copy.deepcopy(network, {key: tensor for key, tensor in shared.items() if key not in merged})
    unmerge(apart, before)
    return apart
