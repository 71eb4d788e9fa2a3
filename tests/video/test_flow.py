"""Frames carried along the flow: what moves lies half-way at half the time, and where it fails all stays."""

from __future__ import annotations

import cv2
import numpy as np
import torch

from kinema.denoiser.pictures import blend, blend_along_flow
from kinema.encoders.embedded import PatchPCAConfig, fit_patch_pca
from kinema.video.flow import carried


def texture(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    coarse = np.random.default_rng(seed).uniform(-0.8, 0.8, (height // 6, width // 6, 3)).astype(np.float32)
    return cv2.resize(coarse, (width + 16, height), interpolation=cv2.INTER_CUBIC)


def panned(seed: int, *shifts: int) -> torch.Tensor:
    """One row of pictures of the same texture, each so many pixels further left."""
    wide = texture(seed)
    return torch.from_numpy(np.stack([wide[:, at : at + 64] for at in shifts])).permute(3, 0, 1, 2)[None]


def error(made: torch.Tensor, true: torch.Tensor) -> float:
    return (made - true)[..., 8:-8].square().mean().sqrt().item()


def test_what_moves_lies_between():
    true = panned(0, 0, 2, 4, 6, 8)
    early, late = carried(true[:, :, [0, -1]], 5)
    linear = blend(true[:, :, [0, -1]], 5).mean
    for side in (early, late, (early + late) / 2):
        assert error(side[:, :, 1:-1], true[:, :, 1:-1]) < 0.35 * error(linear[:, :, 1:-1], true[:, :, 1:-1])


def test_the_ends_are_the_pictures_themselves():
    pictures = panned(1, 0, 5)
    early, late = carried(pictures, 4)
    assert torch.equal(early[:, :, 0], pictures[:, :, 0])
    assert torch.equal(late[:, :, -1], pictures[:, :, 1])
    assert early.dtype == pictures.dtype


def test_a_still_picture_stays():
    pictures = panned(2, 0, 0)
    early, late = carried(pictures, 5)
    expected = pictures[:, :, :1].expand_as(early)
    torch.testing.assert_close(early, expected)
    torch.testing.assert_close(late, expected)


def test_what_the_flow_cannot_explain_is_left_where_it_is():
    """Two unlike pictures: what is carried is trusted little, and no worse than staying."""
    pictures = torch.cat([panned(3, 0), panned(4, 0)], dim=2)
    early, late = carried(pictures, 3)
    still = blend(pictures, 3)
    apart = error(early[:, :, 1], late[:, :, 1])
    assert apart <= error(still.early[:, :, 1], still.late[:, :, 1])


def test_rows_do_not_meet():
    pictures = torch.cat([panned(5, 0, 6), panned(6, 4, 0)])
    together, _ = carried(pictures, 5)
    alone, _ = carried(pictures[1:], 5)
    assert torch.equal(together[1:], alone)


def test_latents_at_the_ends_are_those_that_are_known():
    """Also where an autoencoder would draw others."""
    pictures = panned(7, 0, 4)
    autoencoder = fit_patch_pca(PatchPCAConfig(patch=2, components=12, whitening=0.0), (pictures,))
    ends = autoencoder.encode(pictures) + 0.01
    found = blend_along_flow(autoencoder, pictures, ends, 5)
    assert torch.equal(found.mean[:, :, [0, -1]], ends)
    early, _ = carried(pictures, 5)
    assert torch.equal(found.early[:, :, 1:], autoencoder.encode(early)[:, :, 1:])
