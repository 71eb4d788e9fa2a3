"""Distances between two sets of features: Fréchet between Gaussians, and the unbiased kernel distance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "n d"]


def frechet_distance(first: Features, second: Features) -> float:
    """|mean - mean'|^2 + tr(S + S' - 2 (S S')^(1/2)) of two sets of features (Dowson and Landau 1982).

    With centred features X = Q R and covariance S = R'R / (n - 1), the eigenvalues of S S' are the squared
    singular values of R R'^T / sqrt((n - 1)(n' - 1)). So the trace of the root is a sum of singular values:
    no matrix root is taken, nothing is inverted, and singular covariances (n < d) are exact as well.
    """
    first, second = _checked(first), _checked(second)
    means = first.mean(axis=0) - second.mean(axis=0)
    left, right = _root(first), _root(second)
    overlap = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    distance = means @ means + (left**2).sum() + (right**2).sum() - 2 * overlap
    return float(max(distance, 0.0))


def _checked(features: Features) -> Features:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2:
        raise ValueError(f"a set of features needs shape (n >= 2, d), got {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features hold a value that is not finite")
    return features


def _root(features: Features) -> Float[np.ndarray, "k d"]:
    """R with R'R = the covariance; k = min(n, d)."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def kernel_distance(first: Features, second: Features) -> float:
    """Squared maximum mean discrepancy, unbiased, with the kernel (x.y / d + 1)^3 (Binkowski 2018).

    Unbiased in the number of videos, unlike the Fréchet distance; may be slightly negative for equal sets.
    """
    first, second = _checked(first), _checked(second)
    n, m = len(first), len(second)
    own, other = _kernel(first, first), _kernel(second, second)
    within = (own.sum() - np.trace(own)) / (n * (n - 1)) + (other.sum() - np.trace(other)) / (m * (m - 1))
    return float(within - 2 * _kernel(first, second).mean())


def _kernel(first: Features, second: Features) -> Float[np.ndarray, "n m"]:
    kernel: Float[np.ndarray, "n m"] = (first @ second.T / first.shape[1] + 1.0) ** 3
    return kernel


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its bootstrap interval, and how many videos it rests on."""

    value: float
    low: float | None
    high: float | None
    videos: int


def mean_estimate(
    values: Float[np.ndarray, " n"],
    generator: np.random.Generator,
    replicates: int = 1000,
    confidence: float = 0.95,
) -> Estimate:
    """Mean over videos with the percentile interval of resampled videos; no interval below two videos."""
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(value=mean, low=None, high=None, videos=len(values))
    drawn = values[generator.integers(0, len(values), (replicates, len(values)))].mean(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Estimate(value=mean, low=float(low), high=float(high), videos=len(values))


def distance_estimate(
    distance: Callable[[Features, Features], float],
    sets: tuple[Features, Features],
    generator: np.random.Generator,
    replicates: int = 200,
    confidence: float = 0.95,
) -> Estimate:
    """A distance with the interval of resampled videos on both sides.

    Repeated videos raise a distance, so the replicates are shifted to have the estimate as their mean: the
    interval tells the spread, and does not remove the distance's own bias at this number of videos.
    """
    first, second = sets
    value = distance(first, second)
    drawn = np.array(
        [
            distance(
                first[generator.integers(0, len(first), len(first))],
                second[generator.integers(0, len(second), len(second))],
            )
            for _ in range(replicates)
        ]
    )
    if not replicates:
        return Estimate(value=value, low=None, high=None, videos=len(first))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn - drawn.mean() + value, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high), videos=len(first))
