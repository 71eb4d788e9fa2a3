"""LPIPS against another implementation on random weights and the published heads; errors name the key."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kinema.errors import CheckpointError
from kinema.evaluate.lpips import ALEXNET, Lpips, load_lpips, lpips


def torchvision_like(kind: str) -> nn.Sequential:
    """The layers of `features`, in the order that torchvision numbers them."""
    layers: list[nn.Module] = []
    if kind == "vgg":
        width = 3
        for item in (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"):
            if item == "M":
                layers.append(nn.MaxPool2d(2, 2))
                continue
            layers += [nn.Conv2d(width, item, 3, padding=1), nn.ReLU()]
            width = item
        return nn.Sequential(*layers)
    layers = [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, 1, 2),
        nn.ReLU(),
    ]
    layers += [
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, 1, 1),
        nn.ReLU(),
    ]
    return nn.Sequential(*layers, nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(3, 2))


def frames(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 72, 80, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", ["vgg", "alex"])
def test_agrees_with_torchmetrics(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pytest.importorskip(
        "torchmetrics.functional.image.lpips", reason="torchmetrics is a development dependency"
    )
    torch.manual_seed(0)
    backbone = torchvision_like(kind)
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda *_, **__: backbone)
    other = theirs._LPIPS(net=kind)
    weights = {f"features.{key}": value for key, value in backbone.state_dict().items()}
    weights |= {
        key: value for key, value in other.state_dict().items() if key.startswith("lin") and "model" in key
    }
    save_file(
        {key: value.clone() for key, value in weights.items() if "lins." not in key},
        tmp_path / "w.safetensors",
    )
    ours = lpips(load_lpips(tmp_path / "w.safetensors"), frames(0), frames(1))
    one, two = (torch.from_numpy(frames(seed)).permute(0, 3, 1, 2) / 127.5 - 1 for seed in (0, 1))
    assert ours == pytest.approx(float(other(one, two).mean()), rel=1e-5)
    assert ours > 0


def test_equal_frames_have_no_distance_and_shapes_must_agree() -> None:
    network = Lpips(ALEXNET)
    assert lpips(network, frames(0), frames(0)) == 0
    with pytest.raises(ValueError, match="differ"):
        lpips(network, frames(0), frames(0)[:1])


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_lpips(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match=r"no features\.0\.weight"):
        load_lpips(path)
    state = {key: value.clone() for key, value in Lpips(ALEXNET).state_dict().items()}
    del state["lin3.model.1.weight"]
    save_file(state, path)
    with pytest.raises(
        CheckpointError, match=r"lin3\.model\.1\.weight should have shape \(1, 256, 1, 1\), found nothing"
    ):
        load_lpips(path)
