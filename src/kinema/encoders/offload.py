"""Encoders that wait in main memory and are on a device only while they work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")
_WORK = ("encode", "encode_unscaled", "decode")


def offload(encoder: nn.Module, device: torch.device | str) -> None:
    """Keep the encoder on the CPU; each call that encodes or decodes takes it to `device` and back.

    Tensors that such a call is given go to `device` too, and what it returns stays there.
    """
    encoder.to("cpu")
    visits = _Visits(encoder, torch.device(device))
    for name in _WORK:
        if hasattr(encoder, name):
            setattr(encoder, name, visits.during(getattr(encoder, name)))


@dataclass
class _Visits:
    """Of one encoder to the device; a call within a call finds it there."""

    encoder: nn.Module
    device: torch.device
    there: bool = False

    def during(self, work: Callable[P, R]) -> Callable[P, R]:
        """The same method, for the time of which the encoder is on the device."""

        @wraps(work)
        def visiting(*args: P.args, **named: P.kwargs) -> R:
            if self.there:
                return work(*args, **named)
            self.encoder.to(self.device)
            self.there = True
            try:
                return work(*self._moved(args), **dict(zip(named, self._moved(named.values()), strict=True)))
            finally:
                self.there = False
                self.encoder.to("cpu")

        return visiting

    def _moved(self, values: Iterable[object]) -> Iterator[Any]:
        return (value.to(self.device) if isinstance(value, Tensor) else value for value in values)
