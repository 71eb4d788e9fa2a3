"""A prompt of several things, by a model that knows one at a time.

While the noise is high, which is when it is decided where things are and how they move, every part of the
prompt is denoised by itself. Then the things are moved apart by whole latent cells and laid into one clip,
which is denoised as one: of each part's estimate is taken what is near its thing. Estimates of several
prompts are joined for one clip in Composable Diffusion (Liu et al., arXiv:2206.01714) and MultiDiffusion
(Bar-Tal et al., arXiv:2302.08113); there the clip is one from the beginning, and a model that was shown
single things drops one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from jaxtyping import Float
from torch import Tensor

from kinema.diffusion.protocols import Denoise, Denoised
from kinema.encoders.grammar import Part
from kinema.encoders.protocols import Parting, TextEncoder

_CELLS = 16
"""Of the grid on which things are placed, along the shorter side; they go two of them at a time."""
_STANDS_OUT = 0.4
"""Share of the most that a clip differs from its ground at which a cell is the thing's."""
_GAP = 2
"""Cells between things."""
_LEAD = 0.15
"""By how much a later part must stand out more than the first, whose ground is kept."""
_SHARPNESS = 20.0


@dataclass(frozen=True)
class Parts:
    """Every part of every prompt, in order, and the number of the prompt that each belongs to."""

    parts: tuple[Part, ...]
    prompt: tuple[int, ...]

    @property
    def captions(self) -> list[str]:
        """One a part."""
        return [part.caption for part in self.parts]

    def rows(self, prompt: int) -> list[int]:
        """The parts of a prompt."""
        return [row for row, owner in enumerate(self.prompt) if owner == prompt]

    @property
    def prompts(self) -> int:
        """How many there are."""
        return 1 + max(self.prompt)


def split_prompts(encoder: TextEncoder, prompts: Sequence[str], *, singles: bool = False) -> Parts | None:
    """None where no prompt has several parts that the encoder can tell, or a place for its one.

    `singles`: prompts of one part are wanted too.
    """
    if not isinstance(encoder, Parting):
        return None
    found = [encoder.parts(prompt) for prompt in prompts]
    if not singles and all(len(parts) == 1 and parts[0].place is None for parts in found):
        return None
    numbered = [(part, number) for number, parts in enumerate(found) for part in parts]
    return Parts(tuple(part for part, _ in numbered), tuple(number for _, number in numbered))


@dataclass(frozen=True)
class Laid:
    """Latents of whole prompts, and how much of each part's estimate is taken at every place of them."""

    latents: Float[Tensor, "b c t h w"]
    shares: Float[Tensor, "rows 1 t h w"]


def lay_together(
    parts: Parts, latents: Float[Tensor, "rows c t h w"], clean: Float[Tensor, "rows c t h w"]
) -> Laid:
    """Noised latents of every part in one clip a prompt, its things apart; `clean` is what is seen in them.

    Latents go around the edge where they are moved; things do not, if there is any way to avoid it.
    """
    seen = _stands_out(clean)
    moved, shares = [], []
    for prompt in range(parts.prompts):
        rows = parts.rows(prompt)
        ways = _ways(seen[rows], [parts.parts[row].place for row in rows])
        own, share = _rolled(latents[rows], ways), _shares(_rolled(seen[rows], ways))
        nearest = F.one_hot(share.argmax(0), len(rows)).movedim(-1, 0)[:, None]
        moved.append((own * nearest).sum(0))
        shares.append(share[:, None])
    return Laid(torch.stack(moved), torch.cat(shares))


def widened(
    laid: Laid, parts: Parts, clean: Float[Tensor, "rows c t h w"], noised: Float[Tensor, "b c t h2 w2"]
) -> Laid:
    """What was laid together, in the middle of a larger clip; around it is the ground of the first parts.

    `clean` is what is seen in the parts, `noised` the larger clip's noise as strong as what is in them.
    """
    firsts = [parts.rows(prompt)[0] for prompt in range(parts.prompts)]
    ground = clean[firsts].flatten(3).median(-1).values[..., None, None]
    latents = ground + noised
    shares = latents.new_zeros(len(laid.shares), 1, *latents.shape[2:])
    shares[firsts] = 1
    middle(latents, laid.latents.shape)[:] = laid.latents
    middle(shares, laid.shares.shape)[:] = laid.shares
    return Laid(latents, shares)


def middle(larger: Tensor, shape: Sequence[int]) -> Tensor:
    """The part of a clip with the height and width of `shape` around its middle."""
    top, left = ((side - own) // 2 for side, own in zip(larger.shape[-2:], shape[-2:], strict=True))
    return larger[..., top : top + shape[-2], left : left + shape[-1]]


def _rolled(rows: Tensor, ways: Sequence[tuple[int, int]]) -> Tensor:
    """Each row moved down and right, around the edge."""
    return torch.stack([torch.roll(row, way, (-2, -1)) for row, way in zip(rows, ways, strict=True)])


def denoise_together(denoise: Denoise, parts: Parts, shares: Float[Tensor, "rows 1 t h w"]) -> Denoise:
    """Of whole prompts, from `denoise`, which has a row for each part."""
    owner = torch.tensor(parts.prompt, device=shares.device)

    def together(latents: Float[Tensor, "b c t h w"], sigma: Float[Tensor, "b t"]) -> Denoised:
        clean = denoise(latents[owner], sigma[owner]).clean
        return Denoised(torch.zeros_like(latents).index_add_(0, owner, clean * shares))

    return together


def _stands_out(clean: Float[Tensor, "rows c t h w"]) -> Float[Tensor, "rows t h w"]:
    """How far each place is from the median of its frame: 0 for half of the places, 1 at most in a clip."""
    away = (clean - clean.flatten(3).median(-1).values[..., None, None]).square().sum(1).sqrt()
    around = F.avg_pool2d(away, 3, stride=1, padding=1, count_include_pad=False)
    least = around.flatten(2).median(-1).values[..., None, None]
    most = (around - least).amax((1, 2, 3), keepdim=True)
    return ((around - least) / most.clamp(min=1e-6)).clamp(0, 1)


def _shares(seen: Float[Tensor, "parts t h w"]) -> Float[Tensor, "parts t h w"]:
    """Of every place, how much is whose: what stands out near it more; the ground is the first part's."""
    near = F.avg_pool2d(F.max_pool2d(seen, 3, stride=1, padding=1), 3, stride=1, padding=1)
    lead = torch.zeros(len(seen), 1, 1, 1, device=seen.device)
    lead[0] = _LEAD
    return torch.softmax(_SHARPNESS * (near + lead), dim=0)


def _ways(
    seen: Float[Tensor, "parts t h w"], places: Sequence[tuple[float, float] | None]
) -> list[tuple[int, int]]:
    """Cells down and right that each part is moved: apart, inside, where it was told to be, and not far.

    The first part is tried everywhere; of what follows each goes where it is best beside those before.
    """
    stride = max(1, min(seen.shape[-2:]) // _CELLS)
    things = F.max_pool2d((seen > _STANDS_OUT).float(), stride)
    fat = F.max_pool2d(things, 2 * _GAP + 1, stride=1, padding=_GAP)
    ways = [
        (down, right)
        for down in range(-(things.shape[-2] // 2), things.shape[-2] // 2 + 1, 2)
        for right in range(-(things.shape[-1] // 2), things.shape[-1] // 2 + 1, 2)
    ]
    own = torch.stack([_alone(thing, ways, place) for thing, place in zip(things, places, strict=True)])
    here = [torch.stack([_shifted(thing, way) for way in ways]).flatten(1) for thing in things]
    wide = [torch.stack([_shifted(thing, way) for way in ways]).flatten(1) for thing in fat]
    best, chosen = float("inf"), [0] * len(things)
    for start in range(len(ways)):
        taken, cost = [start], float(own[0, start])
        for part in range(1, len(things)):
            costs = own[part].clone()
            for other, way in enumerate(taken):
                costs += 2 * (here[part] @ wide[other][way]) / things[part].sum().clamp(min=1)
            taken.append(int(costs.argmin()))
            cost += float(costs.min())
        if cost < best:
            best, chosen = cost, taken
    return [(ways[way][0] * stride, ways[way][1] * stride) for way in chosen]


def _alone(
    thing: Float[Tensor, "t h w"], ways: Sequence[tuple[int, int]], place: tuple[float, float] | None
) -> Float[Tensor, " ways"]:
    """What each way costs a part by itself: the share that leaves the clip, the place, the distance."""
    moved = torch.stack([_shifted(thing, way) for way in ways])
    lost = 1 - moved.sum((1, 2, 3)) / thing.sum().clamp(min=1)
    far = torch.tensor([float(down * down + right * right) for down, right in ways], device=thing.device)
    cost = 3 * lost + 1e-4 * far
    if place is not None:
        cost += 3 * (_short(moved[:, 0], 2, place[0]) + _short(moved[:, 0], 1, place[1]))
    return cost


def _short(first: Float[Tensor, "ways h w"], axis: int, way: float) -> Float[Tensor, " ways"]:
    """By how much the thing of the first frame is short of where it is to be, along one axis; sides."""
    profile = first.sum(3 - axis)
    cells = torch.linspace(-1, 1, profile.shape[1], device=first.device)
    middle = (profile * cells).sum(1) / profile.sum(1).clamp(min=1e-3)
    return middle.abs() * 0.5 if way == 0 else (0.5 * abs(way) - middle * (1 if way > 0 else -1)).clamp(min=0)


def _shifted(thing: Float[Tensor, "t h w"], way: tuple[int, int]) -> Float[Tensor, "t h w"]:
    """Moved down and right; what leaves is gone."""
    down, right = way
    height, width = thing.shape[1:]
    padded = F.pad(thing, (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, top : top + height, left : left + width]
