"""What a video alone tells, with no weights: flicker, consistency along the motion, motion, drift, camera."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

from kinema.evaluate.reference_metrics import psnr
from kinema.video.flow import drawn_along

FLOW_WIDTH = 160
Flow = Float[np.ndarray, "h w 2"]


def temporal_flicker(frames: UInt8[np.ndarray, "t h w c"]) -> float:
    """Mean over pixels of |f(t-1) - 2 f(t) + f(t+1)| / 4, in [0, 1]; 0 below three frames.

    Zero for stills and even fades; the amplitude for brightness that alternates. Fast motion raises it too:
    read it beside `warp_error`.
    """
    if len(frames) < 3:
        return 0.0
    second = [
        np.abs(before.astype(np.float32) - 2.0 * now.astype(np.float32) + after.astype(np.float32)).mean()
        for before, now, after in zip(frames, frames[1:], frames[2:], strict=False)
    ]
    return float(np.mean(second) / 4 / 255)


def flows(frames: UInt8[np.ndarray, "t h w c"]) -> Iterator[tuple[Flow, Flow]]:
    """Farnebäck's flow forward and backward between neighbours, in pixels at the size of `frames`."""
    for now, after in pairwise([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]):
        yield _farneback(now, after), _farneback(after, now)


def _farneback(now: UInt8[np.ndarray, "h w"], after: UInt8[np.ndarray, "h w"]) -> Flow:
    start = np.zeros((*now.shape, 2), dtype=np.float32)
    flow: Flow = cv2.calcOpticalFlowFarneback(now, after, start, 0.5, 3, 15, 3, 5, 1.2, 0)
    return flow


def small(frames: UInt8[np.ndarray, "t h w c"]) -> UInt8[np.ndarray, "t h2 w2 c"]:
    """Frames `FLOW_WIDTH` wide at most, area averaged: flow there is cheap and comparable across sizes."""
    height, width = frames.shape[1:3]
    if width <= FLOW_WIDTH:
        return frames
    size = (FLOW_WIDTH, max(8, round(height * FLOW_WIDTH / width)))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])


def motion_amount(frames: UInt8[np.ndarray, "t h w c"], fps: float) -> float:
    """Mean length of the flow, in frame widths a second; 0 for one frame."""
    if len(frames) < 2:
        return 0.0
    lengths = [float(np.linalg.norm(forward, axis=-1).mean()) for forward, _ in flows(frames)]
    return float(np.mean(lengths) / frames.shape[2] * fps)


def warp_error(frames: UInt8[np.ndarray, "t h w c"]) -> float:
    """Mean absolute difference in [0, 1] between a frame and the next one warped back along the flow.

    Only where the forward and the backward flow agree and stay inside, so that uncovered background does not
    count. 0 for a video whose things keep their look while they move.
    """
    errors = []
    for now, after, (forward, backward) in zip(frames, frames[1:], flows(frames), strict=False):
        warped, seen = _warp(after, forward)
        returned, _ = _warp(backward, forward)
        loop = np.linalg.norm(forward + returned, axis=-1)
        length = np.linalg.norm(forward, axis=-1) + np.linalg.norm(returned, axis=-1)
        agree = seen & (loop < 0.5 + 0.05 * length)
        if agree.any():
            errors.append(float(np.abs(now.astype(np.float32) - warped.astype(np.float32))[agree].mean()))
    return float(np.mean(errors) / 255) if errors else 0.0


def _warp(
    image: Float[np.ndarray, "h w c"] | UInt8[np.ndarray, "h w c"], flow: Flow
) -> tuple[Float[np.ndarray, "h w c"], Bool[np.ndarray, "h w"]]:
    height, width = flow.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    at_x, at_y = x + flow[..., 0], y + flow[..., 1]
    seen = (at_x >= 0) & (at_x <= width - 1) & (at_y >= 0) & (at_y <= height - 1)
    return drawn_along(image.astype(np.float32), flow), seen


def appearance_drift(frames: UInt8[np.ndarray, "t h w c"]) -> float:
    """Hellinger distance in [0, 1] between the colours of the first and the last quarter of the frames.

    Motion inside the frame hardly changes colours; a subject or a scene that turns into another does.
    """
    quarter = max(1, len(frames) // 4)
    first, last = _colours(frames[:quarter]), _colours(frames[-quarter:])
    return float(np.sqrt(max(0.0, 1.0 - np.sqrt(first * last).sum())))


def _colours(frames: UInt8[np.ndarray, "t h w c"]) -> Float[np.ndarray, " bins"]:
    """Share of pixels in each of 8 x 8 x 8 colours."""
    codes = (frames >> 5).astype(np.int64) @ np.array([64, 8, 1])
    counts = np.bincount(codes.reshape(-1), minlength=512)
    return np.asarray(counts / counts.sum())


def first_frame_fidelity(frames: UInt8[np.ndarray, "t h w c"], image: UInt8[np.ndarray, "h w c"]) -> float:
    """PSNR in dB of the first frame against the image that the video was made from."""
    return psnr(frames[:1], image[None])


def camera_motion(frames: UInt8[np.ndarray, "t h w c"]) -> str:
    """static, pan_left, pan_right, tilt_up, tilt_down, zoom_in or zoom_out: the strongest part of the flow.

    Per pair, flow = shift + zoom x (place - centre) fitted by least absolute deviation; the camera moves
    against the shift. Static below 0.1 % of the frame's width a frame.
    """
    if len(frames) < 2:
        return "static"
    right, down, zoom = np.mean([_shift_and_zoom(forward) for forward, _ in flows(frames)], axis=0)
    strengths = {
        "pan_left": right,
        "pan_right": -right,
        "tilt_up": down,
        "tilt_down": -down,
        "zoom_in": zoom,
        "zoom_out": -zoom,
    }
    name = max(strengths, key=lambda key: strengths[key])
    return name if strengths[name] > 0.001 * frames.shape[2] else "static"


def _shift_and_zoom(flow: Flow) -> tuple[float, float, float]:
    """Shift right and down, and the zoom's flow a quarter of the width from the centre; all in pixels."""
    height, width = flow.shape[:2]
    x = np.arange(width) - (width - 1) / 2
    y = np.arange(height) - (height - 1) / 2
    right, down = float(np.median(flow[..., 0])), float(np.median(flow[..., 1]))
    far_x, far_y = np.abs(x) > width / 8, np.abs(y) > height / 8
    outward_x = (flow[:, far_x, 0] - right) / x[far_x]
    outward_y = (flow[far_y, :, 1] - down) / y[far_y, None]
    rate = float(np.median(np.concatenate([outward_x.reshape(-1), outward_y.reshape(-1)])))
    return right, down, rate * width / 4
