"""The shipped network: any size and length; distances that grow with each damage, and leave real beside
real."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from kinema.checkpoint import write_tensors
from kinema.errors import CheckpointError
from kinema.evaluate.embedded_features import EmbeddedFeatures, square_video
from kinema.evaluate.features import EmbeddedConfig, build_features
from kinema.evaluate.frechet import frechet_distance

Frames = np.ndarray


def scene(seed: int, frames: int = 8, side: int = 96) -> Frames:
    """Two textures, one of which moves over the other as a disc, seen by a camera that pans."""
    generator = np.random.default_rng(seed)
    layers = []
    for _ in range(2):
        coarse = sum(
            cv2.resize(generator.normal(size=(n, n, 3)), (3 * side, 3 * side), interpolation=cv2.INTER_CUBIC)
            / n**0.5
            for n in (4, 9, 30, 90)
        )
        layers.append(np.clip(128 + 60 * coarse / coarse.std() + generator.normal(0, 30, 3), 0, 255))
    pan, run = generator.uniform(-4, 4, 2), generator.uniform(-6, 6, 2)
    rows, columns = np.mgrid[:side, :side]
    shown = []
    for n in range(frames):
        top, left = (side + n * pan).round().astype(int)
        disc = (rows - side / 2 - n * run[0]) ** 2 + (columns - side / 2 - n * run[1]) ** 2 < (side / 4) ** 2
        back, front = (
            layer[top : top + side, left : left + side] for layer in (layers[0], np.roll(layers[1], n, 0))
        )
        shown.append(np.where(disc[..., None], front, back))
    return np.stack(shown).astype(np.uint8)


def blurred(frames: Frames, strength: float, generator: np.random.Generator) -> Frames:
    return np.stack([cv2.GaussianBlur(frame, (0, 0), strength) for frame in frames])


def noisy(frames: Frames, strength: float, generator: np.random.Generator) -> Frames:
    return np.clip(frames + generator.normal(0, strength, frames.shape), 0, 255).astype(np.uint8)


def shuffled(frames: Frames, strength: float, generator: np.random.Generator) -> Frames:
    order, moved = np.arange(len(frames)), generator.permutation(len(frames))[: int(strength)]
    order[moved] = np.roll(moved, 1)
    return frames[order]


def frozen(frames: Frames, strength: float, generator: np.random.Generator) -> Frames:
    return frames[np.arange(len(frames)) // int(strength) * int(strength)]


@pytest.fixture(scope="module")
def network() -> EmbeddedFeatures:
    found = build_features(EmbeddedConfig())
    assert isinstance(found, EmbeddedFeatures)
    return found


@pytest.fixture(scope="module")
def scenes() -> list[Frames]:
    return [scene(seed) for seed in range(20)]


@pytest.mark.parametrize(
    ("damage", "strengths"), [(blurred, (1, 2, 4)), (noisy, (8, 20, 40))], ids=["blur", "noise"]
)
def test_the_distance_grows_with_damage_to_the_picture(
    network: EmbeddedFeatures, scenes: list[Frames], damage, strengths: tuple[float, ...]
) -> None:
    generator = np.random.default_rng(0)
    real = np.array([network(frames) for frames in scenes])
    distances = [0.0]
    for strength in strengths:
        worse = np.array([network(damage(frames, strength, generator)) for frames in scenes])
        distances.append(frechet_distance(real, worse))
    assert distances == sorted(distances)
    assert distances[-1] > frechet_distance(real[::2], real[1::2])


@pytest.mark.parametrize(("damage", "strength"), [(shuffled, 8), (frozen, 8)], ids=["shuffled", "frozen"])
def test_time_is_seen(network: EmbeddedFeatures, scenes: list[Frames], damage, strength: int) -> None:
    """A network that looks at frames alone sees no difference in the shuffled ones."""
    generator = np.random.default_rng(0)
    real = np.array([network(frames) for frames in scenes])
    worse = np.array([network(damage(frames, strength, generator)) for frames in scenes])
    assert frechet_distance(real, worse) > 0.2 * frechet_distance(real[::2], real[1::2])


def test_any_size_and_length_has_features_also_a_picture(network: EmbeddedFeatures) -> None:
    widths = {network(scene(0, frames, side)).shape for frames, side in ((1, 32), (3, 64), (16, 96))}
    assert widths == {(96,)}
    still = scene(0, 1)
    assert network(still) == pytest.approx(network(np.concatenate([still, still])))
    assert square_video(scene(0, 2, 40)).shape == (1, 3, 2, 128, 128)


def test_what_the_distance_may_be_compared_with_is_said(network: EmbeddedFeatures) -> None:
    assert "not comparable with published FVD" in network.about
    assert network.name.startswith("kinema-embedded sha256 ")


def test_other_weights_have_another_name_and_foreign_files_are_refused(
    network: EmbeddedFeatures, tmp_path: Path
) -> None:
    state = network.network.state_dict()
    write_tensors(
        tmp_path / "own.safetensors", {**state, "blocks.0.space.weight": state["blocks.0.space.weight"] * 2}
    )
    assert EmbeddedFeatures(tmp_path / "own.safetensors").name != network.name
    write_tensors(tmp_path / "other.safetensors", {"weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        EmbeddedFeatures(tmp_path / "other.safetensors")
