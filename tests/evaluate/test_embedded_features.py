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
from kinema.evaluate.embedded_features import (
    BESIDE,
    PLACES,
    STEPS,
    EmbeddedFeatures,
    FeatureNet,
    places,
    scales_of,
    square_video,
    steps,
)
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


def jumbled(frames: Frames, strength: float, generator: np.random.Generator) -> Frames:
    """The picture cut in `strength` x `strength` tiles, of which none stays where it was."""
    count = int(strength)
    tiles = [tile for row in np.split(frames, count, axis=1) for tile in np.split(row, count, axis=2)]
    order = np.roll(np.arange(len(tiles)), int(generator.integers(1, len(tiles))))
    rows = [
        np.concatenate([tiles[place] for place in order[first : first + count]], axis=2)
        for first in range(0, len(tiles), count)
    ]
    return np.concatenate(rows, axis=1)


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


@pytest.mark.parametrize(
    ("damage", "strength"),
    [(shuffled, 4), (shuffled, 8), (frozen, 8), (jumbled, 2), (jumbled, 4)],
    ids=["some shuffled", "shuffled", "frozen", "quarters", "sixteenths"],
)
def test_time_and_place_are_seen(network: EmbeddedFeatures, scenes: list[Frames], damage, strength) -> None:
    """A mean over places is blind to a jumbled picture, one over frames to their order."""
    generator = np.random.default_rng(0)
    real = np.array([network(frames) for frames in scenes])
    worse = np.array([network(damage(frames, strength, generator)) for frames in scenes])
    assert frechet_distance(real, worse) > 0.2 * frechet_distance(real[::2], real[1::2])


def test_more_frames_out_of_order_are_further_away(network: EmbeddedFeatures, scenes: list[Frames]) -> None:
    generator = np.random.default_rng(0)
    real = np.array([network(frames) for frames in scenes])
    distances = []
    for moved in (0, 2, 4, 6):  # six of eight change as much from frame to frame as eight of eight
        worse = np.array([network(shuffled(frames, moved, generator)) for frames in scenes])
        distances.append(frechet_distance(real, worse))
    assert distances == sorted(distances)


def test_places_and_steps_of_an_even_still_are_nothing() -> None:
    still = torch.rand(1, 96, 1, 1, 1).expand(1, 96, 5, 6, 7)
    assert places(still).abs().max() < 1e-6
    assert steps(still).abs().max() == 0.0
    assert steps(torch.rand(1, 32, 2, 4, 4)).abs().max() == 0.0  # two frames have one step
    ramp = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(1, 32, 9, 4, 4)
    assert steps(ramp)[0].exp() == pytest.approx([2.0, 4.0], rel=1e-2)


def test_scales_bring_the_groups_to_their_share(network: EmbeddedFeatures, scenes: list[Frames]) -> None:
    windows = torch.cat([square_video(frames) for frames in scenes])
    bare = FeatureNet().eval()
    bare.scales.copy_(scales_of(bare, windows))
    with torch.no_grad():
        features = bare(windows).var(dim=0).split([96, PLACES, len(STEPS)])
    shares = [float(group.sum() / features[0].sum()) for group in features[1:]]
    assert shares == pytest.approx([BESIDE, BESIDE], rel=1e-3)


def test_any_size_and_length_has_features_also_a_picture(network: EmbeddedFeatures) -> None:
    widths = {network(scene(0, frames, side)).shape for frames, side in ((1, 32), (3, 64), (16, 96))}
    assert widths == {(106,)}
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
