from __future__ import annotations

import numpy as np

from kinema.curate.cuts import CutConfig, CutDetector, Transition


def shot(seed: int, frames: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    still = np.kron(generator.integers(0, 256, (9, 10, 3)), np.ones((5, 8, 1))).astype(np.uint8)
    return np.repeat(still[None], frames, axis=0)


def detect(frames: np.ndarray, fps: float = 25.0, config: CutConfig | None = None) -> list[Transition]:
    detector = CutDetector(config)
    for index, frame in enumerate(frames):
        detector.push(frame, index / fps)
    return detector.finish()


def test_a_hard_cut_is_found_at_its_exact_frame() -> None:
    found = detect(np.concatenate([shot(0, 30), shot(1, 40)]))
    assert [(cut.start_index, cut.end_index, cut.kind) for cut in found] == [(30, 30, "hard")]


def test_one_shot_has_no_transition() -> None:
    assert detect(shot(0, 50)) == []


def test_nothing_pushed_gives_nothing() -> None:
    assert CutDetector().finish() == []
