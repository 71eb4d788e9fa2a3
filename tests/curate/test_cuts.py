from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from kinema.curate.cuts import CutDetector, Transition
from kinema.curate.cuts_hard import HardCutConfig

FPS = 25.0


def shot(seed: int, frames: int, speed: float = 0.15) -> np.ndarray:
    """A picture with soft structure that drifts sideways by `speed` pixels a frame."""
    noise = np.random.default_rng(seed).normal(size=(45, 80 * 3, 3))
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    wide = np.clip(128 + 55 * soft / soft.std(), 0, 255).astype(np.float32)
    views = [cv2.getRectSubPix(wide, (80, 45), (60 + speed * index, 22)) for index in range(frames)]
    return np.stack(views).astype(np.uint8)


def mix(old: np.ndarray, new: np.ndarray, frames: int) -> np.ndarray:
    """`old`, a dissolve over `frames` frames, `new`."""
    weights = ((np.arange(frames) + 1) / (frames + 1))[:, None, None, None]
    middle = (old[-frames:] * (1 - weights) + new[:frames] * weights).astype(np.uint8)
    return np.concatenate([old[:-frames], middle, new[frames:]])


def detect(frames: np.ndarray, fps: float = FPS) -> list[Transition]:
    detector = CutDetector()
    for index, frame in enumerate(frames):
        detector.push(frame, index / fps)
    return detector.finish()


def spans(found: list[Transition]) -> list[tuple[int, int, str]]:
    return [(cut.start_index, cut.end_index, cut.kind) for cut in found]


def test_a_hard_cut_is_found_at_its_exact_frame() -> None:
    assert spans(detect(np.concatenate([shot(0, 30), shot(1, 40)]))) == [(30, 30, "hard")]


@pytest.mark.parametrize("fps", [10.0, 24.0, 60.0, 240.0])
def test_a_hard_cut_is_exact_at_every_frame_rate(fps: float) -> None:
    frames = np.concatenate([shot(0, 50), shot(1, 70)])
    assert spans(detect(frames, fps)) == [(50, 50, "hard")]


def test_one_shot_has_no_transition_and_nothing_pushed_gives_nothing() -> None:
    assert detect(shot(0, 80)) == []
    assert CutDetector().finish() == []
    assert detect(shot(0, 1)) == []


@pytest.mark.parametrize("length", [1, 2, 4])
def test_a_flash_is_no_cut(length: int) -> None:
    frames = shot(0, 80)
    frames[40 : 40 + length] = (0.15 * frames[40 : 40 + length] + 0.85 * 255).astype(np.uint8)
    assert detect(frames) == []


def test_a_whip_pan_is_no_cut() -> None:
    quiet, fast = shot(0, 60), shot(0, 10, speed=12.0)
    assert detect(np.concatenate([quiet[:1].repeat(30, axis=0), fast, fast[-1:].repeat(30, axis=0)])) == []


@pytest.mark.parametrize("length", [10, 16, 25])
def test_a_dissolve_is_found_with_its_extent(length: int) -> None:
    [found] = detect(mix(shot(0, 60), shot(1, 60), length))
    assert found.kind == "dissolve"
    assert abs(found.start_index - (60 - length)) <= 4
    assert abs(found.end_index - 60) <= 4


def test_a_fade_through_black_is_one_transition() -> None:
    black = np.zeros((20, 45, 80, 3), np.uint8)
    [found] = detect(mix(mix(shot(0, 60), black, 12), shot(1, 60), 5))
    assert found.kind == "fade"
    assert abs(found.start_index - 48) <= 3
    assert abs(found.end_index - 68) <= 3


def test_a_source_may_fade_in_and_out_at_its_ends() -> None:
    black = np.zeros((14, 45, 80, 3), np.uint8)
    opening, closing = detect(mix(mix(black, shot(0, 90), 10), black, 10))
    assert (opening.start_index, opening.kind) == (0, "fade")
    assert (closing.end_index, closing.kind) == (98, "fade")


def test_light_that_changes_is_no_transition() -> None:
    gain = np.interp(np.arange(80), [30, 50], [1.0, 0.45])[:, None, None, None]
    assert detect((shot(0, 80) * gain).astype(np.uint8)) == []


def test_a_long_source_is_judged_window_by_window_without_loss_or_doubles() -> None:
    shots = [shot(seed, 47) for seed in range(24)]
    frames = shots[0]
    truth = []
    for index, following in enumerate(shots[1:]):
        if index % 2:
            truth.append((len(frames), len(frames)))
            frames = np.concatenate([frames, following])
        else:
            truth.append((len(frames) - 12, len(frames)))
            frames = mix(frames, following, 12)
    found = detect(frames)
    assert len(found) == len(truth)
    for transition, (start, end) in zip(found, truth, strict=True):
        assert abs(transition.start_index - start) <= 3
        assert abs(transition.end_index - end) <= 3
    assert all(left.end_index <= right.start_index for left, right in itertools.pairwise(found))


def test_memory_stays_bounded() -> None:
    detector = CutDetector()
    for index, frame in enumerate(shot(0, 200).repeat(10, axis=0)):
        detector.push(frame, index / 200)
    held = len(detector._hard._frames) + len(detector._gradual._frames)
    assert held < 900


def test_limits_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="sure_ratio"):
        HardCutConfig(ratio=4.0, sure_ratio=2.0)
