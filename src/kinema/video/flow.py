"""Two frames carried along the optical flow between them, to the times between."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from kinema.video.transforms import to_frames

_FLOW_SIDE = 256
"""Pixels of the shorter side at least that flow is looked for on: smaller pictures are enlarged."""
_AROUND = 5 / 64
"""Of the shorter side, over which it is judged whether the flow is right."""

Grey = UInt8[np.ndarray, "h w"]
Flow = Float[np.ndarray, "h w 2"]


def carried(
    pictures: Float[Tensor, "b 3 2 h w"], frames: int
) -> tuple[Float[Tensor, "b 3 t h w"], Float[Tensor, "b 3 t h w"]]:
    """The first and the second of two pictures (-1 to 1) as either would look at each of `frames` equal steps
    from the one to the other.

    Flow both ways by dense inverse search (Kroeger et al., ECCV 2016; OpenCV's), and each picture drawn along
    its share of it. Where that brings the two no nearer to each other than they were, they stay as they are;
    between, a mixture. The ends of the sequence are exactly the pictures.
    """
    rows = [_row(pair, frames) for pair in pictures.cpu()]
    early, late = (torch.stack(side).to(pictures) for side in zip(*rows, strict=True))
    return early, late


def _row(pair: Float[Tensor, "3 2 h w"], frames: int) -> tuple[Tensor, Tensor]:
    first, second = (
        np.ascontiguousarray(rearrange(pair[:, at].float().numpy(), "c h w -> h w c")) for at in (0, 1)
    )
    grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in to_frames(pair)]
    there, back = _flow(grey[0], grey[1]), _flow(grey[1], grey[0])
    shares = np.linspace(0, 1, frames).tolist()
    sides = [_mixed(first, second, there, back, share) for share in shares]
    early, late = [one for one, _ in sides], [other for _, other in sides]
    early[0], late[-1] = first, second
    return _stacked(early), _stacked(late)


def _mixed(
    first: Float[np.ndarray, "h w 3"],
    second: Float[np.ndarray, "h w 3"],
    there: Flow,
    back: Flow,
    share: float,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w 3"]]:
    """Both pictures at one time, drawn along the flow as far as that makes them alike."""
    one = drawn_along(first, -share * there, cv2.INTER_CUBIC)
    other = drawn_along(second, -(1 - share) * back, cv2.INTER_CUBIC)
    around = max(3, round(_AROUND * min(first.shape[:2])) | 1)
    apart, nearer = (
        cv2.blur(np.abs(a - b).mean(-1), (around, around)) for a, b in ((first, second), (one, other))
    )
    trust = np.clip((apart - nearer) / (apart + 1e-5), 0, 1)[..., None].astype(np.float32)
    return first + trust * (one - first), second + trust * (other - second)


def _flow(first: Grey, second: Grey) -> Flow:
    scale = max(1.0, _FLOW_SIDE / min(first.shape))
    one, other = (
        cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC) for grey in (first, second)
    )
    dense = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found = dense.calc(one, other, np.zeros((*one.shape, 2), np.float32))
    size = (first.shape[1], first.shape[0])
    return np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(scale)


def drawn_along(
    picture: Float[np.ndarray, "h w *c"] | UInt8[np.ndarray, "h w *c"],
    flow: Flow,
    how: int = cv2.INTER_LINEAR,
) -> Float[np.ndarray, "h w *c"] | UInt8[np.ndarray, "h w *c"]:
    """The picture where each place is taken from where the flow points; the edge goes on outside."""
    x, y = np.meshgrid(*(np.arange(side, dtype=np.float32) for side in picture.shape[1::-1]))
    across, down = x + flow[..., 0], y + flow[..., 1]
    return np.asarray(cv2.remap(picture, across, down, how, borderMode=cv2.BORDER_REPLICATE))


def _stacked(pictures: list[Float[np.ndarray, "h w 3"]]) -> Float[Tensor, "3 t h w"]:
    return torch.from_numpy(rearrange(np.stack(pictures), "t h w c -> c t h w"))
