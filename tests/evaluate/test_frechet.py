"""The Fréchet distance against closed forms, a matrix root and torchmetrics; the kernel distance unbiased."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kinema.evaluate.frechet import distance_estimate, frechet_distance, kernel_distance, mean_estimate


def normal(count: int, width: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, width))


def by_matrix_root(first: np.ndarray, second: np.ndarray) -> float:
    linalg = pytest.importorskip("scipy.linalg", reason="scipy is a development dependency")
    root = linalg.sqrtm(np.cov(first.T) @ np.cov(second.T)).real
    gap = first.mean(0) - second.mean(0)
    return gap @ gap + np.trace(np.cov(first.T)) + np.trace(np.cov(second.T)) - 2 * np.trace(root)


def test_equal_sets_have_no_distance_and_a_shift_has_its_square() -> None:
    features = normal(50, 8, 0)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features, features + 3.0) == pytest.approx(8 * 9.0, abs=1e-9)


def test_scaling_has_the_closed_form() -> None:
    features = normal(60, 5, 1)
    variance = np.cov(features.T).trace()
    centred = features - features.mean(0)
    assert frechet_distance(centred, 3 * centred) == pytest.approx(4 * variance, rel=1e-12)


def test_agrees_with_a_matrix_root_and_is_symmetric() -> None:
    first = normal(300, 12, 2) @ normal(12, 12, 3)
    second = normal(200, 12, 4) @ normal(12, 12, 5) + 0.5
    ours = frechet_distance(first, second)
    assert ours == pytest.approx(by_matrix_root(first, second), rel=1e-8)
    assert ours == pytest.approx(frechet_distance(second, first), rel=1e-12)


def test_agrees_with_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is a development dependency")
    first, second = torch.from_numpy(normal(100, 10, 6)), torch.from_numpy(normal(120, 10, 7, 1.5, 0.3))
    theirs = fid._compute_fid(first.mean(0), first.T.cov(), second.mean(0), second.T.cov())
    assert frechet_distance(first.numpy(), second.numpy()) == pytest.approx(float(theirs), rel=1e-8)


def test_agrees_with_torchmetrics_and_scipy_where_features_outnumber_videos() -> None:
    """Their roots of singular matrices are good to a few digits only."""
    fid = pytest.importorskip("torchmetrics.image.fid", reason="torchmetrics is a development dependency")
    first, second = normal(16, 40, 20, 1.0), normal(24, 40, 21, 2.0, 0.2)
    ours = frechet_distance(first, second)
    one, other = torch.from_numpy(first), torch.from_numpy(second)
    theirs = float(fid._compute_fid(one.mean(0), one.T.cov(), other.mean(0), other.T.cov()))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert ours == pytest.approx(by_matrix_root(first, second), rel=1e-4)


@pytest.mark.parametrize(("count", "other"), [(6, 9), (6, 200), (200, 6)])
def test_fewer_videos_than_features_is_exact(count: int, other: int) -> None:
    first, second = normal(count, 30, 8), normal(other, 30, 9)
    centred = [own - own.mean(0) for own in (first, second)]
    kernel = centred[0] @ centred[1].T
    values = np.linalg.eigvalsh(kernel @ kernel.T)
    root = np.sqrt(np.maximum(values, 0)).sum() / np.sqrt((count - 1) * (other - 1))
    gap = first.mean(0) - second.mean(0)
    exact = gap @ gap + np.cov(first.T).trace() + np.cov(second.T).trace() - 2 * root
    assert frechet_distance(first, second) == pytest.approx(exact, rel=1e-7)


def test_a_constant_feature_and_a_duplicate_feature_change_nothing_wrongly() -> None:
    first, second = normal(80, 4, 10), normal(90, 4, 11, 2.0)
    plain = frechet_distance(first, second)
    padded = [np.hstack([own, np.full((len(own), 3), 7.0)]) for own in (first, second)]
    assert frechet_distance(*padded) == pytest.approx(plain, rel=1e-9)
    doubled = [np.hstack([own, own]) for own in (first, second)]
    assert frechet_distance(*doubled) == pytest.approx(2 * plain, rel=1e-9)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="n >= 2"):
        frechet_distance(normal(1, 3, 0), normal(5, 3, 0))
    with pytest.raises(ValueError, match="not finite"):
        kernel_distance(np.array([[1.0], [np.nan]]), normal(5, 1, 0))


def test_kernel_distance_is_unbiased_and_agrees_with_torchmetrics() -> None:
    values = [kernel_distance(normal(12, 4, seed), normal(12, 4, 1000 + seed)) for seed in range(400)]
    assert np.mean(values) == pytest.approx(0, abs=3 * np.std(values) / np.sqrt(400))
    assert kernel_distance(normal(12, 4, 0), normal(12, 4, 1, shift=1.0)) > 1
    kid = pytest.importorskip("torchmetrics.image.kid", reason="torchmetrics is a development dependency")
    first, second = normal(20, 6, 12), normal(20, 6, 13, 1.2)
    theirs = kid.poly_mmd(torch.from_numpy(first), torch.from_numpy(second))
    assert kernel_distance(first, second) == pytest.approx(float(theirs), rel=1e-9)


def test_the_mean_has_an_interval_that_covers() -> None:
    inside = 0
    for seed in range(200):
        found = mean_estimate(normal(40, 1, seed)[:, 0], np.random.default_rng(seed), confidence=0.9)
        inside += found.low <= 0 <= found.high
    assert inside / 200 == pytest.approx(0.88, abs=0.06)
    single = mean_estimate(np.array([2.0]), np.random.default_rng(0))
    assert (single.value, single.low, single.high, single.videos) == (2.0, None, None, 1)


def test_a_distance_has_a_seeded_interval_around_it() -> None:
    sets = (normal(40, 3, 0), normal(50, 3, 1, shift=0.5))
    found = distance_estimate(frechet_distance, sets, np.random.default_rng(0))
    assert found.low < found.value < found.high
    assert found == distance_estimate(frechet_distance, sets, np.random.default_rng(0))
    assert distance_estimate(frechet_distance, sets, np.random.default_rng(0), replicates=0).low is None
