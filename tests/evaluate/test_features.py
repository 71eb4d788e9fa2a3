"""Feature networks: called as published, repeatable, and loaded only from the file that was meant."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kinema.errors import CheckpointError
from kinema.evaluate.features import BandEnergiesConfig, I3DConfig, InceptionConfig, build_features


class Detector(nn.Module):
    """Stands in for I3D: same call, and features that show what arrived."""

    def forward(self, video: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        flags = float(rescale) + 10 * float(resize) + 100 * float(return_features)
        shown = torch.stack([video.min(), video.max(), video[0, 0, -1, 0, 0], torch.tensor(flags)])
        return shown[None]


class FrameDetector(nn.Module):
    """Stands in for Inception."""

    def forward(self, image: Tensor, return_features: bool) -> Tensor:
        return torch.stack([image[0, 0, 0, 0].float(), torch.tensor(float(return_features))])[None]


def save_script(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network), str(path))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_script(Detector(), tmp_path_factory.mktemp("weights") / "i3d.pt")


def frames(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (8, 48, 64, 3), dtype=np.uint8)


def test_i3d_gets_pixels_of_0_to_255_and_the_published_flags(weights: Path) -> None:
    network = build_features(I3DConfig(path=weights))
    pixels = frames()
    assert network(pixels).tolist() == [pixels.min(), pixels.max(), pixels[-1, 0, 0, 0], 111]
    assert hashlib.sha256(weights.read_bytes()).hexdigest() in network.name


def test_inception_gets_the_middle_frame(tmp_path: Path) -> None:
    network = build_features(InceptionConfig(path=save_script(FrameDetector(), tmp_path / "inception.pt")))
    pixels = frames()
    assert network(pixels).tolist() == [pixels[4, 0, 0, 0], 1]
    assert network.name.startswith("inception-torchscript middle frame")


def test_a_wrong_missing_or_foreign_file_is_not_loaded(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected 00; not loaded"):
        build_features(I3DConfig(path=weights, sha256="00"))
    with pytest.raises(CheckpointError, match="no such file"):
        build_features(I3DConfig(path=tmp_path / "none.pt"))
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a TorchScript file") as caught:
        build_features(I3DConfig(path=tmp_path / "text.pt"))
    assert "\n" not in str(caught.value)


def test_band_energies_are_fixed_by_the_seed() -> None:
    one, again, other = (build_features(BandEnergiesConfig(seed=seed)) for seed in (0, 0, 1))
    assert (one(frames()) == again(frames())).all()
    assert one.name != other.name
    assert np.abs(one(frames()) - other(frames())).max() > 1e-3


def test_band_energies_see_blur_noise_and_a_frozen_video() -> None:
    network = build_features(BandEnergiesConfig())
    rough = np.random.default_rng(1).integers(0, 256, (18, 24, 3), dtype=np.uint8)
    whole = cv2.resize(rough, (96, 72), interpolation=cv2.INTER_CUBIC)
    video = np.stack([whole[4:68, n : n + 64] for n in range(8)])
    altered = {
        "blurred": np.stack([cv2.GaussianBlur(frame, (0, 0), 3) for frame in video]),
        "noisy": np.clip(video + np.random.default_rng(2).normal(0, 25, video.shape), 0, 255).astype(
            np.uint8
        ),
        "frozen": np.repeat(video[:1], 8, axis=0),
        "shuffled": video[[3, 0, 6, 1, 7, 2, 5, 4]],
    }
    usual = np.linalg.norm(network(video) - network(video[:, ::-1].copy()))
    for name, other in altered.items():
        assert np.linalg.norm(network(video) - network(other)) > 2 * usual, name
    assert np.isfinite(network(video[:1])).all()
