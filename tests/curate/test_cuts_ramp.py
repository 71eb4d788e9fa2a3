from __future__ import annotations

import numpy as np

from kinema.curate.cuts_ramp import doubt, fit_ramp, likeness, mixing, out_of_step, straight_ramp


def pictures() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    return generator.uniform(0, 255, 660), generator.uniform(0, 255, 660)


def test_a_mix_is_explained_without_rest() -> None:
    old, new = pictures()
    weights, unmixed = mixing(np.stack([old, 0.7 * old + 0.3 * new, new]), old, new)
    assert np.allclose(weights, [0, 0.3, 1], atol=1e-6)
    assert np.allclose(unmixed, 0, atol=1e-6)


def test_a_clamped_ramp_is_recovered_exactly() -> None:
    weights = np.clip((np.arange(30) - 8) / (21 - 8), 0, 1)
    assert straight_ramp(weights) == (8, 21)


def test_a_perfect_dissolve_has_no_doubt_and_a_third_picture_has() -> None:
    old, new = pictures()
    weights = np.clip((np.arange(30) - 8) / 13, 0, 1)[:, None]
    frames = old * (1 - weights) + new * weights
    assert fit_ramp(frames) == (8, 21)
    assert doubt(frames, 8, 21) < 1e-6
    frames[9:21] = np.random.default_rng(1).uniform(0, 255, 660)
    assert doubt(frames, 8, 21) > 2


def test_likeness_ignores_light() -> None:
    old, new = pictures()
    assert likeness(old, 0.5 * old + 20) > 0.999
    assert abs(likeness(old, new)) < 0.2


def views(weights: np.ndarray) -> list[np.ndarray]:
    """Two pictures mixed by weights (t, h, w)."""
    generator = np.random.default_rng(2)
    old, new = (generator.integers(0, 256, (45, 80, 3)).astype(float) for _ in range(2))
    share = weights[..., None]
    return list(np.rint(old * (1 - share) + new * share).astype(np.uint8))


def test_a_mix_turns_everywhere_at_once_and_a_crossing_does_not() -> None:
    time = np.linspace(0, 1, 10)[:, None, None]
    assert out_of_step(views(np.broadcast_to(time, (10, 45, 80)))) < 0.02
    column = np.linspace(0, 1, 80)[None, None, :]
    crossing = np.broadcast_to((column < time).astype(float), (10, 45, 80))
    assert out_of_step(views(crossing)) > 0.15
