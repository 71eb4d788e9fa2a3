"""Matrix products in float32 on processors where PyTorch's own are slow.

MKL, which multiplies float32 matrices for PyTorch on x86, keeps its AVX-512 code to Intel's processors; on
AMD's it runs at half the rate of oneDNN, which PyTorch holds as well (docs/decisions/0340). Everywhere else
these functions are the plain ones.
"""
# ruff: noqa: ANN401 (the context of an autograd function has no type)

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.flop_counter import register_flop_formula

from kinema.nn.precision import processor

_SMALLEST = 2**21
"""Multiplications below which choosing costs more than it saves."""


class Linear(nn.Linear):
    """A linear layer through `linear`."""

    def forward(self, input: Float[Tensor, "*n i"]) -> Float[Tensor, "*n o"]:
        return linear(input, self.weight, self.bias)


def linear(
    values: Float[Tensor, "*n i"], weight: Float[Tensor, "o i"], bias: Float[Tensor, " o"] | None = None
) -> Float[Tensor, "*n o"]:
    """As `torch.nn.functional.linear`; autocast applies."""
    if not applies(values, weight) or torch.is_autocast_enabled("cpu"):
        return F.linear(values, weight, bias)
    return _multiply(values, weight, bias)


def mm(left: Float[Tensor, "m k"], right: Float[Tensor, "k n"]) -> Float[Tensor, "m n"]:
    """As `torch.mm`."""
    if not applies(left, right):
        return torch.mm(left, right)
    return _multiply(left, right.T, None) if left.is_contiguous() else _outer(left.T, right)


def add_mm(total: Float[Tensor, "m n"], left: Float[Tensor, "m k"], right: Float[Tensor, "k n"]) -> None:
    """total += left @ right."""
    if applies(left, right):
        total.add_(mm(left, right))
    else:
        total.addmm_(left, right)


def bmm(left: Float[Tensor, "n m k"], right: Float[Tensor, "n k p"]) -> Float[Tensor, "n m p"]:
    """As `torch.bmm`."""
    if not applies(left[0], right[0]):
        return torch.bmm(left, right)
    if len(left) == 1:
        return mm(left[0], right[0])[None]
    return torch.stack([mm(first, second) for first, second in zip(left, right, strict=True)])


def add_bmm(
    total: Float[Tensor, "n m p"], left: Float[Tensor, "n m k"], right: Float[Tensor, "n k p"]
) -> None:
    """total += left @ right."""
    if applies(left[0], right[0]):
        total.add_(bmm(left, right))
    else:
        total.baddbmm_(left, right)


def applies(left: Float[Tensor, "*n k"], right: Float[Tensor, "p q"]) -> bool:
    """Whether oneDNN multiplies these two; it depends on the processor, the types and the sizes alone."""
    return (
        left.dtype == right.dtype == torch.float32
        and left.device.type == right.device.type == "cpu"
        and left.numel() * right.numel() >= _SMALLEST * left.shape[-1]
        and ONEDNN_IS_FASTER
    )


def _mkl_leaves_avx512_out() -> bool:
    return (
        torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and "AuthenticAMD" in processor()
    )


ONEDNN_IS_FASTER = _mkl_leaves_avx512_out()


_library = torch.library.Library("kinema", "DEF")  # type: ignore[no-untyped-call]
_library.define("multiply(Tensor values, Tensor weight, Tensor? bias) -> Tensor")  # type: ignore[no-untyped-call]
"""An operator of its own, which the compiler calls and does not look into."""


@torch.library.impl(_library, "multiply", "CPU")
def _on_cpu(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    # With gaps between its rows oneDNN would take a matrix to its reference code, a thousand times as slow.
    dense = weight if weight.T.is_contiguous() else weight.contiguous()
    out: Tensor = torch.ops.mkldnn._linear_pointwise(values.contiguous(), dense, bias, "none", [], "")
    return out


def _in_shape(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    del bias
    return values.new_empty(*values.shape[:-1], weight.shape[0])


torch.library.register_fake("kinema::multiply", _in_shape, lib=_library)


@register_flop_formula(torch.ops.kinema.multiply)
def _count(values: torch.Size, weight: torch.Size, *_: object, **__: object) -> int:
    return 2 * math.prod(values) * weight[0]


def _multiply(
    values: Float[Tensor, "*n i"], weight: Float[Tensor, "o i"], bias: Tensor | None
) -> Float[Tensor, "*n o"]:
    out: Tensor = torch.ops.kinema.multiply(values, weight, bias)
    return out


def _remember(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    del output
    values, weight, bias = inputs
    ctx.save_for_backward(values, weight)
    ctx.biased = bias is not None


def _gradients(ctx: Any, grad: Float[Tensor, "*n o"]) -> tuple[Tensor | None, ...]:
    values, weight = ctx.saved_tensors
    wanted = ctx.needs_input_grad
    outer = grad.flatten(0, -2)
    inner = _multiply(grad, weight.T, None) if wanted[0] else None
    slope = _outer(outer, values.flatten(0, -2)) if wanted[1] else None
    shift = outer.sum(0) if ctx.biased and wanted[2] else None
    return inner, slope, shift


torch.library.register_autograd("kinema::multiply", _gradients, setup_context=_remember, lib=_library)


def _outer(left: Float[Tensor, "m o"], right: Float[Tensor, "m i"]) -> Float[Tensor, "o i"]:
    """left.T @ right; the product's first matrix is copied, so that is the smaller of the two."""
    if left.shape[1] <= right.shape[1]:
        return _multiply(left.T, right.T, None)
    return _multiply(right.T, left.T, None).T
