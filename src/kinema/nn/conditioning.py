"""Everything that a network is told besides the noised latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Conditioning:
    """Caption tokens and the facts of the clip, one row per batch element.

    `token_mask` True marks a word, None means that all tokens are words. Height and width are in pixels,
    `frames` counts the frames of the clip (not of its latents), `aspect_ratio` is given as the model was
    taught it: height / width, or width / height for the published weights.
    """

    tokens: Float[Tensor, "b l d"]
    token_mask: Bool[Tensor, "b l"] | None = None
    height: Float[Tensor, " b"]
    width: Float[Tensor, " b"]
    aspect_ratio: Float[Tensor, " b"]
    frames: Float[Tensor, " b"]
    fps: Float[Tensor, " b"]

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device | str) -> Conditioning:
        return self._map(lambda value: value.to(device))

    def repeat(self, times: int) -> Conditioning:
        """The whole batch `times` times, one after the other."""
        return self._map(lambda value: torch.cat([value] * times))

    def with_caption(
        self, tokens: Float[Tensor, "l d"], where: Bool[Tensor, " b"] | None = None
    ) -> Conditioning:
        """One caption for all rows, or for the rows in `where`; as published, each row keeps its mask."""
        replaced = tokens.to(self.tokens).expand_as(self.tokens)
        if where is not None:
            replaced = torch.where(where[:, None, None], replaced, self.tokens)
        return replace(self, tokens=replaced)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        changed = {name: change(value) for name, value in values.items() if value is not None}
        return replace(self, **changed)


def cat_conditioning(parts: Sequence[Conditioning]) -> Conditioning:
    """The rows of several conditionings in one batch; their token lengths must agree."""
    columns = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Conditioning)}
    masks = columns.pop("token_mask")
    if any(mask is not None for mask in masks):
        masks = [
            torch.ones(part.tokens.shape[:2], dtype=torch.bool, device=part.tokens.device)
            if mask is None
            else mask
            for part, mask in zip(parts, masks, strict=True)
        ]
    token_mask = None if masks[0] is None else torch.cat(masks)
    return Conditioning(
        token_mask=token_mask, **{name: torch.cat(values) for name, values in columns.items()}
    )


def each(values: Shaped[Tensor, "b ..."], rows: int) -> Shaped[Tensor, "rows ..."]:
    """The batch, whole times one after the other, up to so many rows. Raises `ValueError` where none fit."""
    if len(values) == rows:
        return values
    if rows % len(values):
        raise ValueError(f"{rows} rows of conditioning are no whole times the {len(values)} of the latents")
    return values.repeat(rows // len(values), *[1] * (values.ndim - 1))
