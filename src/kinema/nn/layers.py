"""Small layers of the transformers: embeddings of numbers, patches and positions, norms, feed-forward."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from kinema.nn import fused
from kinema.nn.products import Linear

NEAR_TIE = 1.5e-9


def sinusoid(values: Float[Tensor, "*n"], width: int) -> Float[Tensor, "*n {width}"]:
    """[cos(v f), sin(v f)] with f_k = 10000^(-2k/width), always in float32.

    Processors disagree on the last bit of float32 exponentials, and at timestep 999 that bit is visible in
    the output. Here every machine gets the frequencies of the published implementation: rounded from
    float64, near ties upwards.
    """
    half = width // 2
    steps = torch.arange(half, device=values.device, dtype=torch.float32)
    exponents = -math.log(10_000) * steps / half
    frequencies = (exponents.double().exp() * (1 + NEAR_TIE)).float()
    angles = values.float()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class ScalarEmbedder(nn.Module):
    """A number as a vector: sinusoid in float32 (bf16 would merge half of the timesteps), then an MLP."""

    def __init__(self, hidden: int, sinusoid_width: int = 256) -> None:
        super().__init__()
        self.sinusoid_width = sinusoid_width
        self.mlp = nn.Sequential(Linear(sinusoid_width, hidden), nn.SiLU(), Linear(hidden, hidden))

    def forward(self, values: Float[Tensor, " b"]) -> Float[Tensor, "b d"]:
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        embedded: Tensor = self.mlp(sinusoid(values, self.sinusoid_width).to(first.weight.dtype))
        return embedded


class FrameTimes(ScalarEmbedder):
    """When each frame is seen, as a vector that is added to its tokens; zero until it is trained.

    Told in eighths of a second from the first frame on, so that the same motion is told alike at any rate.
    """

    def __init__(self, hidden: int) -> None:
        super().__init__(hidden)
        self.begin_at_zero()

    @torch.no_grad()
    def begin_at_zero(self) -> None:
        """The last layer gives zeros."""
        for parameter in self.mlp[-1].parameters():
            parameter.zero_()

    def of(self, seconds: Float[Tensor, "b t"]) -> Float[Tensor, "b t d"]:
        """For the second at which each frame is seen."""
        embedded: Tensor = self(8 * seconds.flatten())
        return embedded.reshape(*seconds.shape, -1)


class Mlp(nn.Module):
    """Linear, tanh-GELU, Linear."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1 = Linear(width, hidden)
        self.fc2 = Linear(hidden, out)

    def forward(self, tokens: Float[Tensor, "*n d"]) -> Float[Tensor, "*n out"]:
        if fused.applies(tokens) and type(self.fc1) is type(self.fc2) is Linear:
            first, second = ((part.weight, part.bias) for part in (self.fc1, self.fc2))
            return fused.mlp(tokens, first, second)
        hidden = F.gelu(self.fc1(tokens), approximate="tanh")
        out: Tensor = self.fc2(hidden)
        return out


class RMSNorm(nn.Module):
    """Root-mean-square norm of the last axis; statistics in float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, values: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        wide = values.float()
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        inverse = torch.rsqrt(length * length / values.shape[-1] + self.eps)
        return (wide * inverse).to(values.dtype) * self.weight


class PatchEmbed(nn.Module):
    """Latents to tokens, one per patch; sizes that patches do not divide are zero-padded at the end."""

    def __init__(self, channels: int, hidden: int, patch_size: tuple[int, int, int]) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv3d(channels, hidden, kernel_size=patch_size, stride=patch_size)

    def forward(self, latents: Float[Tensor, "b c t h w"]) -> Float[Tensor, "b t s d"]:
        pt, ph, pw = self.patch_size
        _, _, frames, height, width = latents.shape
        padded = F.pad(latents, (0, -width % pw, 0, -height % ph, 0, -frames % pt))
        patches = rearrange(padded, "b c (t pt) (h ph) (w pw) -> b t (h w) (c pt ph pw)", pt=pt, ph=ph, pw=pw)
        # The kernel equals the stride: a matrix product is the same convolution, and faster on a CPU.
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def position_embedding(
    scale: Float[Tensor, " b"], rows: int, columns: int, width: int
) -> Float[Tensor, "b s {width}"]:
    """Fixed 2-D sinusoids of the patch grid; `scale` maps the picture's size to the size of the base grid.

    The first half of the channels encodes the column, the second half the row; tokens run row by row.
    """
    base = round(math.sqrt(rows * columns))
    steps = torch.arange(width // 4, device=scale.device, dtype=torch.float32)
    frequencies = 1.0 / 10_000 ** (4 * steps / width)

    def axis(count: int) -> Tensor:
        places = torch.arange(count, device=scale.device, dtype=torch.float32)
        angles = (places / scale.float()[:, None] * base / count)[..., None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=-1)

    by_column = axis(columns)[:, None].expand(-1, rows, -1, -1)
    by_row = axis(rows)[:, :, None].expand(-1, -1, columns, -1)
    return torch.cat([by_column, by_row], dim=-1).flatten(1, 2)


class RotaryEmbedding(nn.Module):
    """Rotation angles along time. The frequencies stay float32 when the network is cast to bf16."""

    def __init__(self, head_width: int, theta: float = 10_000.0) -> None:
        super().__init__()
        exponents = torch.arange(0, head_width, 2, dtype=torch.float32) / head_width
        self.freqs = nn.Parameter(1.0 / theta**exponents, requires_grad=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RotaryEmbedding:
        exact = self.freqs.detach()
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if not exact.is_meta:
            self.freqs.data = exact.to(self.freqs.device)
        return self

    def forward(self, frames: int) -> tuple[Float[Tensor, "t half"], Float[Tensor, "t half"]]:
        """Cosines and sines for positions 0 .. frames - 1."""
        places = torch.arange(frames, device=self.freqs.device, dtype=torch.float32)
        angles = places[:, None] * self.freqs.float()
        return angles.cos(), angles.sin()


def place_angles(
    rows: int, columns: int, head_width: int, device: torch.device, theta: float = 100.0
) -> tuple[Float[Tensor, "s half"], Float[Tensor, "s half"]]:
    """Cosines and sines for a grid of patches, row by row: half of the channel pairs turn with the row, half
    with the column.
    """
    steps = torch.arange(0, head_width // 4, dtype=torch.float32, device=device)
    frequencies = theta ** -(steps / (head_width // 4))
    down, across = (torch.arange(count, device=device)[:, None] * frequencies for count in (rows, columns))
    angles = torch.cat([down[:, None].expand(-1, columns, -1), across.expand(rows, -1, -1)], dim=-1)
    angles = angles.flatten(0, 1)
    return angles.cos(), angles.sin()


def joint_angles(
    half_seconds: Float[Tensor, "b t"], rows: int, columns: int, head_width: int
) -> tuple[Float[Tensor, "b n half"], Float[Tensor, "b n half"]]:
    """Cosines and sines for all patches of all frames, frame by frame: a quarter of the channel pairs turns
    with the time of the frame, the others with row and column.
    """
    pairs, device = head_width // 2, half_seconds.device
    down = (pairs - pairs // 4) // 2
    widths = (pairs // 4, down, pairs - pairs // 4 - down)
    across = (torch.arange(count, device=device, dtype=torch.float32) for count in (rows, columns))
    row, column = torch.meshgrid(*across, indexing="ij")
    frames = half_seconds.shape[1]
    places = [
        half_seconds[:, :, None].expand(-1, -1, rows * columns),
        *(place.flatten().expand(len(half_seconds), frames, -1) for place in (row, column)),
    ]
    turned = [
        place.flatten(1)[..., None] * 100.0 ** -(torch.arange(width, device=device) / max(width, 1))
        for place, width in zip(places, widths, strict=True)
    ]
    angles = torch.cat(turned, dim=-1)
    return angles.cos(), angles.sin()


def rotate(
    values: Float[Tensor, "*n t s h d"], cosines: Float[Tensor, "t half"], sines: Float[Tensor, "t half"]
) -> Float[Tensor, "*n t s h d"]:
    """Turn the channel pairs (2j, 2j+1) of each frame by its angles."""
    return turn_pairs(values, cosines[:, None, None], sines[:, None, None])


def turn_pairs(
    values: Float[Tensor, "*n t s h d"], cosines: Float[Tensor, "*m half"], sines: Float[Tensor, "*m half"]
) -> Float[Tensor, "*n t s h d"]:
    """Turn the channel pairs (2j, 2j+1) by angles of frames (`t 1 1 half`) or of places (`s 1 half`)."""
    pairs = rearrange(values.float(), "... (pair two) -> ... pair two", two=2)
    if torch.compiler.is_compiling():  # the compiler does not fuse complex numbers
        even, odd = pairs.unbind(-1)
        turned = torch.stack([even * cosines - odd * sines, odd * cosines + even * sines], dim=-1)
    else:  # one pass over memory instead of seven
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.complex(cosines, sines))
    return turned.flatten(-2).to(values.dtype)


class CaptionEmbedder(nn.Module):
    """Text tokens to the width of the network; holds the (fixed, random) null caption."""

    y_embedding: Tensor

    def __init__(self, channels: int, width: int, max_tokens: int) -> None:
        super().__init__()
        self.register_buffer("y_embedding", torch.randn(max_tokens, channels) / channels**0.5)
        self.y_proj = Mlp(channels, width, width)

    def forward(self, tokens: Float[Tensor, "b l c"]) -> Float[Tensor, "b l d"]:
        words: Tensor = self.y_proj(tokens.to(self.y_proj.fc1.weight.dtype))
        return words
