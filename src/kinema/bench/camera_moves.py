"""Camera moves generated over a photograph, with the move known: a window that slides, grows or turns."""

from __future__ import annotations

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from kinema.curate.camera import CameraMotion

MOVES: tuple[CameraMotion, ...] = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll",
)
_WIDTH, _HEIGHT = 160, 90
_SUPERSAMPLING = 4
_NOISE = 1.5


def camera_move(  # noqa: PLR0913 (each is one property of the move)
    photo: UInt8[np.ndarray, "h w c"],
    move: CameraMotion,
    speed: float,
    *,
    seed: int,
    fps: float = 8.0,
    seconds: float = 3.0,
) -> tuple[UInt8[np.ndarray, "t 90 160 c"], Float[np.ndarray, " t"]]:
    """Frames and timestamps of a view that moves at `speed` widths a second, felt at a typical point.

    Frames carry sensor noise, so that a static camera is not exactly static.
    """
    times = np.arange(round(seconds * fps)) / fps
    shift, scale, angle = _path(move, speed * (times - times.mean()))
    need = np.array([1.0, _HEIGHT / _WIDTH]) + 2 * np.abs(shift).max(axis=0)
    need = need * scale.max() if move != "roll" else np.full(2, np.hypot(1, _HEIGHT / _WIDTH))
    view = 0.98 * min(photo.shape[1] / need[0], photo.shape[0] / need[1])
    generator = np.random.default_rng(seed)
    frames = [
        _view(photo, view, place, grown, turned)
        for place, grown, turned in zip(shift, scale, angle, strict=True)
    ]
    noisy = np.stack(frames) + generator.normal(0, _NOISE, (len(frames), *frames[0].shape))
    return np.clip(noisy, 0, 255).astype(np.uint8), times


def _path(
    move: CameraMotion, travel: Float[np.ndarray, " t"]
) -> tuple[Float[np.ndarray, "t 2"], Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Place of the view (right, down, in widths), its size and its angle, at each time."""
    shift, scale, angle = np.zeros((len(travel), 2)), np.ones(len(travel)), np.zeros(len(travel))
    radius = 0.5 * np.sqrt((1 + (_HEIGHT / _WIDTH) ** 2) / 3)
    match move:
        case "pan_left" | "pan_right":
            shift[:, 0] = travel if move == "pan_right" else -travel
        case "tilt_up" | "tilt_down":
            shift[:, 1] = travel if move == "tilt_down" else -travel
        case "zoom_in" | "zoom_out":
            scale = np.exp((-travel if move == "zoom_in" else travel) / radius)
        case "roll":
            angle = travel / radius
        case "static":
            pass
        case _:
            raise ValueError(f"no path for {move}")
    return shift, scale, angle


def _view(
    photo: UInt8[np.ndarray, "h w c"],
    view: float,
    place: Float[np.ndarray, " 2"],
    grown: float,
    turned: float,
) -> UInt8[np.ndarray, "90 160 c"]:
    step = view * grown / (_WIDTH * _SUPERSAMPLING)
    turn = step * np.array([[np.cos(turned), -np.sin(turned)], [np.sin(turned), np.cos(turned)]])
    size = np.array([_WIDTH, _HEIGHT]) * _SUPERSAMPLING
    centre = np.array([photo.shape[1], photo.shape[0]]) / 2 + place * view
    matrix = np.column_stack([turn, centre - turn @ (size / 2)])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(
        photo, matrix, (int(size[0]), int(size[1])), flags=flags, borderMode=cv2.BORDER_REFLECT
    )
    small = cv2.resize(large, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8).reshape(_HEIGHT, _WIDTH, photo.shape[2])
